(() => {
  const picked = document.getElementById("picked");
  const body = document.getElementById("picked-body");
  const points = [...document.querySelectorAll("a.point")];
  const links = [...document.querySelectorAll("a[data-trial]")];

  function pick(number) {
    const source = document.getElementById(`trial-${number}`);
    if (!source || !picked) return false;
    const copy = source.cloneNode(true);
    copy.removeAttribute("id");
    body.replaceChildren(...copy.childNodes);
    for (const link of links) link.classList.toggle("picked", link.dataset.trial === number);
    for (const row of document.querySelectorAll("tr[data-trial]"))
      row.classList.toggle("picked", row.dataset.trial === number);
    return true;
  }

  async function copyCommand(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  document.documentElement.classList.add("scripted");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) return void copyCommand(button);
    const link = event.target.closest("a[data-trial]");
    if (!link || event.ctrlKey || event.metaKey || !pick(link.dataset.trial)) return;
    event.preventDefault();
    if (!link.classList.contains("point") || innerWidth < 900)
      picked.scrollIntoView({ block: "nearest" });
  });
  for (const [index, point] of points.entries())
    point.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step && points[index + step];
      if (!next) return;
      event.preventDefault();
      next.focus();
      pick(next.dataset.trial);
    });
  if (!picked) return;
  document.documentElement.classList.add("picking");
  picked.hidden = false;
  const asked = /^#trial-(\d+)$/.exec(location.hash);
  if (!asked || !pick(asked[1])) pick(picked.dataset.first);
})();
