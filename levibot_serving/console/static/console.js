// Keeps the console current: every five seconds the page is fetched again, and the sections that changed are replaced.
// Without it the page is whole, and a person loads it again.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const lost = document.getElementById("lost");

  const inUse = (section) =>
    section.contains(document.activeElement) ||
    [...section.querySelectorAll("input")].some((input) => input.value !== input.defaultValue || input.checked !== input.defaultChecked);

  const keepOpen = (old, fresh) => {
    for (const open of old.querySelectorAll("details[data-key][open]")) {
      const same = [...fresh.querySelectorAll("details[data-key]")].find((item) => item.dataset.key === open.dataset.key);
      if (same) same.open = true;
    }
  };

  const show = (page) => {
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || inUse(old)) continue;
      keepOpen(old, fresh);
      if (fresh.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(fresh));
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
