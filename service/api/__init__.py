"""The job API: FastAPI routes in two dialects over the store. Loads neither torch nor ray.

`native_schemas` and `openai_schemas` are what goes over the wire, and import nothing but pydantic.
"""
