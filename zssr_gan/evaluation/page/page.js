"use strict";
// All that the page does by itself; without it every view, chart and table is there all the same.
document.documentElement.classList.add("scripted");

// A zoom counts CSS pixels a pixel of the image.
function zoomed(image, input, output) {
  image.style.setProperty("--zoom", input.value);
  output.textContent = "×" + input.value;
}

// Set a zoom to the largest at which the whole image is in sight; one of a few pixels may be more than 8 times as large.
function fit(input, width, space) {
  const largest = Math.max(1, Math.floor(space / width));
  input.max = Math.max(8, largest);
  input.value = largest;
}

const main = document.querySelector("main");

for (const scene of document.querySelectorAll(".scene")) {
  const compare = scene.querySelector(".compare");
  const views = [...scene.querySelectorAll(".views li")];
  if (views.length < 2) continue;
  compare.hidden = false;
  const part = (name) => compare.querySelector(name);
  const overlay = part(".overlay"), slider = part(".slider"), zoom = part(".stage-zoom");

  function choose(side, image) {
    const chosen = views[part(".side-" + side).value];
    image.src = chosen.querySelector("img").src;
    image.alt = chosen.querySelector("img").alt;
    const mark = part(".mark-" + side), badge = chosen.querySelector(".badge");
    mark.replaceChildren(...(badge ? [badge.cloneNode(true)] : []));
  }
  function slide() {
    overlay.style.setProperty("--share", slider.value + "%");
    slider.setAttribute("aria-valuetext", Math.round(slider.value) + " percent left");
  }
  for (const [side, image] of [["left", part(".over")], ["right", part(".under")]]) {
    const select = part(".side-" + side);
    select.value = compare.dataset[side];
    select.addEventListener("change", () => choose(side, image));
    choose(side, image);
  }
  const first = views[0].querySelector("img");
  overlay.style.setProperty("--width", first.getAttribute("width"));
  fit(zoom, Number(first.getAttribute("width")), Math.min(main.clientWidth - 80, 384)); // some are folded: without a size
  zoom.addEventListener("input", () => zoomed(overlay, zoom, part(".zoom output")));
  slider.addEventListener("input", slide);
  zoomed(overlay, zoom, part(".zoom output"));
  slide();
}

const lens = document.getElementById("lens"), large = document.getElementById("lens-image");
const lensZoom = document.getElementById("lens-zoom"), lensOutput = lens.querySelector("output");
for (const button of document.querySelectorAll(".zoomable")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img"), width = Number(image.getAttribute("width"));
    large.src = image.src;
    large.alt = image.alt;
    large.style.setProperty("--width", width);
    document.getElementById("lens-caption").textContent = button.dataset.caption;
    lens.showModal();
    const view = lens.querySelector(".lens-view");
    fit(lensZoom, width, Math.min(view.clientWidth - 32, 0.75 * innerHeight * width / image.getAttribute("height")));
    zoomed(large, lensZoom, lensOutput);
  });
}
lensZoom.addEventListener("input", () => zoomed(large, lensZoom, lensOutput));
document.getElementById("lens-close").addEventListener("click", () => lens.close());
lens.addEventListener("click", (event) => { if (event.target === lens) lens.close(); });

// What is folded is printed too, and a link to a note opens it.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const around = target && target.closest("details");
  if (around) { around.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
unfold();
