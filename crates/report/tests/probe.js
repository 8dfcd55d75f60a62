// Measures the report in the frame and leaves the result in the document. IDS is defined before this.
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, style = (id) => frame.contentWindow.getComputedStyle(page.querySelector(id));
  const found = {};
  for (const id of IDS) found["#" + id] = page.getElementById(id) !== null && page.getElementById(id).getBoundingClientRect().height > 0;
  const token = page.querySelector("#passage .m[data-h]");
  token.click();
  found.width = page.documentElement.scrollWidth;
  found.background = style("body").backgroundColor;
  found.ink = style("body").color;
  found.tokens = page.querySelectorAll("#passage .t").length;
  found.masked = page.querySelectorAll("#passage .m").length;
  found.outline = style("#passage .m").outlineStyle;
  found.readout = page.getElementById("readout").textContent;
  found.loads = page.querySelectorAll("[src], link, img, iframe").length;
  found.plots = [...page.querySelectorAll("[role=img]")].every((plot) => plot.getAttribute("aria-label").length > 20);
  found.headers = [...page.querySelectorAll("th")].every((cell) => cell.hasAttribute("scope"));
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
});
