// Shows what changed on the page of a run under way, without losing the reader's place; ends when the run has.
"use strict";
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const [now, before] = [page.querySelector("main"), document.querySelector("main")];
      if (now.innerHTML !== before.innerHTML) before.replaceWith(document.adoptNode(now));
      if (!page.querySelector("script")) return;
    }
  } catch {
    // The server was stopped, or is being started again: the page stays as it was.
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
