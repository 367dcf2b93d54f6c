// The start: an explorer for each task from the JSON that the page carries. Nothing is fetched unless the page is
// served by `manypaths watch`: then it looks for news and takes over what changed, leaving the reader's choices alone.

const explorers = new Map();
for (const root of document.querySelectorAll(".explorer")) {
  explorers.set(root.id, explorer(root, JSON.parse(root.querySelector("script").textContent)));
}

window.addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});

const page = document.documentElement;
if (page.dataset.seconds) later();

function later() {
  setTimeout(follow, Number(page.dataset.seconds) * 1000);
}

async function follow() {
  const live = document.getElementById("live");
  try {
    if (!document.hidden) await look(live);
  } catch {
    live.textContent = "No answer: manypaths watch has ended. This is what it showed last.";
  }
  later();
}

async function look(live) {
  const found = await (await fetch("status", { cache: "no-cache" })).json();
  live.textContent = found.words;
  if (found.version === page.dataset.version) return;
  const answer = await (await fetch("./", { cache: "no-cache" })).text();
  const fresh = new DOMParser().parseFromString(answer, "text/html");
  const parts = [...document.querySelectorAll("[data-live]")].map((part) => [part, fresh.getElementById(part.id)]);
  if (parts.some(([, news]) => !news) || parts.length !== fresh.querySelectorAll("[data-live]").length) {
    location.reload(); // other tasks than before
    return;
  }
  for (const [part, news] of parts) {
    if (explorers.has(part.id)) explorers.get(part.id)(JSON.parse(news.textContent));
    else if (!part.dataset.drawn || part.dataset.drawn !== news.dataset.drawn) replace(part, news);
  }
  page.dataset.version = fresh.documentElement.dataset.version;
}

/** Puts news in the place of a part, folded as the part was. */
function replace(part, news) {
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  news.querySelectorAll("details").forEach((one, index) => { one.open = open[index] ?? one.open; });
  if (news.dataset.drawn) part.dataset.drawn = news.dataset.drawn;
  part.replaceChildren(...news.childNodes);
}
