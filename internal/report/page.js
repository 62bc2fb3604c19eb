"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  for (const e of all(".script")) e.hidden = false;

  const select = (pre) => {
    const range = document.createRange();
    range.selectNodeContents(pre);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const said = document.getElementById("said");
  for (const button of all(".copy")) {
    const pre = button.closest(".command").querySelector("pre");
    button.addEventListener("click", async () => {
      let text = "Copied";
      try {
        await navigator.clipboard.writeText(pre.textContent);
      } catch {
        select(pre);
        if (!document.execCommand("copy")) text = "Selected";
      }
      button.textContent = said.textContent = text;
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2000);
    });
  }

  for (const button of all("[data-open]")) {
    const list = all("#" + button.dataset.open + " details");
    button.addEventListener("click", () => {
      const open = list.some((d) => !d.open);
      for (const d of list) d.open = open;
      button.textContent = open ? "Close all" : "Open all";
    });
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const d of opened) d.open = true;
  });
  addEventListener("afterprint", () => {
    for (const d of opened) d.open = false;
  });
})();
