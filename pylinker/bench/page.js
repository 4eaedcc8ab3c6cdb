"use strict";
// Draws every chart from the description that follows it, in the colours of the page.
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [text, back, grid] = ["--text", "--back", "--grid"].map((name) => style.getPropertyValue(name).trim());
  const result = { paper_bgcolor: back, plot_bgcolor: back, "font.color": text, "hoverlabel.bgcolor": back, "hoverlabel.font.color": text };
  for (const axis of ["xaxis", "yaxis"]) {
    Object.assign(result, { [`${axis}.gridcolor`]: grid, [`${axis}.zerolinecolor`]: grid, [`${axis}.linecolor`]: grid });
  }
  return result;
}

async function paint(chart) {
  const layout = colours();
  await Plotly.update(chart, { "error_x.color": layout["font.color"] }, layout);
}

async function drawAll() {
  for (const chart of document.querySelectorAll(".chart")) {
    const figure = JSON.parse(chart.nextElementSibling.textContent);
    await Plotly.newPlot(chart, figure.data, figure.layout, figure.config);
    await paint(chart);
  }
}

dark.addEventListener("change", () => document.querySelectorAll(".chart").forEach(paint));
drawAll();
