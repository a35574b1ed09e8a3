// Keeps the console current: every five seconds the page is fetched again, and the sections that changed are replaced.
// Without it the page is whole, and a person loads it again.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const lost = document.getElementById("lost");

  const inUse = (section) =>
    [...section.querySelectorAll("input")].some((input) =>
      input === document.activeElement || input.value !== input.defaultValue || input.checked !== input.defaultChecked);

  // What is the same in a newer section: a part that can be opened, or a link.
  const sameIn = (fresh, element) => {
    const key = element.closest("[data-key]")?.dataset.key;
    const found = key ? [...fresh.querySelectorAll("[data-key]")].find((item) => item.dataset.key === key) : null;
    return found ?? [...fresh.querySelectorAll("a")].find((link) => link.href === element.href);
  };

  const replace = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? sameIn(fresh, document.activeElement) : null;
    old.replaceWith(document.adoptNode(fresh));
    (focused?.querySelector("summary") ?? focused)?.focus({ preventScroll: true });
  };

  const show = (page) => {
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || inUse(old)) continue;
      for (const open of old.querySelectorAll("[data-key][open]")) sameIn(fresh, open)?.setAttribute("open", "");
      if (fresh.outerHTML !== old.outerHTML) replace(old, fresh);
    }
    document.title = page.title;
    document.getElementById("updated").replaceChildren(...page.getElementById("updated").childNodes);
  };

  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/", { signal: AbortSignal.timeout(EVERY_MS * 2) });
      if (answer.redirected) return location.reload();
      if (!answer.ok) throw new Error(answer.statusText);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      lost.textContent = "";
    } catch {
      lost.textContent = "The API does not answer: what you see is old.";
    }
  };

  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
})();
