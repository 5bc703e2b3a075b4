// What pages do in the browser by themselves: theme, address, files, and rows that are loaded straight into a grid.
"use strict";
window.edgelut = (() => {
  const ink = {
    light: { text: "#24292f", soft: "#57606a", line: "#d0d7de", page: "#ffffff" },
    dark: { text: "#e6edf3", soft: "#9da7b3", line: "#3d444d", page: "#161b22" },
  };
  const mode = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

  function cookie(name) {
    const found = document.cookie.split("; ").find((one) => one.startsWith(name + "="));
    return found ? found.slice(name.length + 1) : "";
  }
  function setMode() {
    const asked = cookie("edgelut-theme");
    const dark = asked === "dark" || (asked !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }
  function remember(theme) {
    document.cookie = `edgelut-theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax`;
    setMode();
  }

  // Charts are drawn on a canvas, which no style sheet reaches: they are told the theme when they appear and when it changes.
  function chartTheme() {
    const { text, soft, line, page } = ink[mode()];
    const axis = {
      axisLine: { lineStyle: { color: line } }, axisTick: { lineStyle: { color: line } },
      axisLabel: { color: soft }, nameTextStyle: { color: soft }, splitLine: { lineStyle: { color: line, opacity: 0.6 } },
    };
    return {
      darkMode: mode() === "dark", backgroundColor: "transparent", textStyle: { color: text },
      title: { textStyle: { color: text } },
      legend: { textStyle: { color: text }, inactiveColor: soft, pageTextStyle: { color: soft }, pageIconColor: soft },
      tooltip: { backgroundColor: page, borderColor: line, textStyle: { color: text } },
      visualMap: { textStyle: { color: soft } }, dataZoom: { textStyle: { color: soft } },
      categoryAxis: { ...axis, splitLine: { show: false } }, valueAxis: axis, logAxis: axis, timeAxis: axis,
    };
  }
  function chartOf(element) {
    try {
      return getElement(Number(element.id.slice(1)))?.chart;
    } catch {
      return undefined; // the page is not mounted yet
    }
  }
  function paint(element, again) {
    const chart = chartOf(element);
    if (!chart || (element.dataset.painted === mode() && !again)) return;
    const first = element.dataset.painted === undefined;
    element.dataset.painted = mode();
    chart.setTheme(chartTheme());
    if (first) element.dispatchEvent(new CustomEvent("painted")); // now it may have its option
  }
  const paintAll = () => document.querySelectorAll(".nicegui-echart").forEach((one) => paint(one, false));

  function download(name, url) {
    const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
  }
  function saveImage(id, name) {
    const chart = getElement(id).chart;
    download(`${name}.png`, chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: ink[mode()].page }));
  }
  function saveCsv(id, name) {
    getElement(id).api.exportDataAsCsv({ fileName: `${name}.csv`, allColumns: true });
  }

  // Both sides change the address: each change is merged into what is there.
  function address(changes) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : "") + location.hash);
  }
  function gridChanged(event, prefix) {
    const sorted = event.api.getColumnState().filter((one) => one.sort).sort((a, b) => a.sortIndex - b.sortIndex);
    const filter = event.api.getFilterModel();
    address({
      [`${prefix}sort`]: sorted.map((one) => `${one.colId}:${one.sort}`).join(","),
      [`${prefix}filter`]: Object.keys(filter).length ? JSON.stringify(filter) : "",
    });
  }

  // Rows come as columns, a third of the size; ids keep the place and the selection when they are loaded again.
  function rowsOf({ names, columns }) {
    const rows = Array.from({ length: columns.length ? columns[0].length : 0 }, () => ({}));
    names.forEach((name, column) => columns[column].forEach((value, row) => { rows[row][name] = value; }));
    return rows;
  }
  const show = (id, packed) => getElement(id)?.api?.setGridOption("rowData", rowsOf(JSON.parse(packed)));
  async function load(api, url) {
    api.setGridOption("loading", true);
    try {
      const answer = await fetch(url, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(await answer.text());
      const rows = rowsOf(await answer.json());
      if (!api.isDestroyed()) api.setGridOption("rowData", rows);
      return rows.length;
    } catch (error) {
      if (!api.isDestroyed()) api.setGridOption("overlayNoRowsTemplate", `<span role="alert">${String(error.message)
        .replace(/[<&]/g, "")}</span>`);
      return -1;
    } finally {
      if (!api.isDestroyed()) api.setGridOption("loading", false);
    }
  }
  function openRow(event, newTab) {
    const to = event.data?.href;
    if (to) newTab ? window.open(to, "_blank") : location.assign(to);
  }
  function cellLink(params) {
    if (!params.data?.href) return params.value ?? "";
    return Object.assign(document.createElement("a"), { href: params.data.href, textContent: params.value ?? "", tabIndex: -1 });
  }
  const figure = (value, digits = 4) =>
    value === null || value === undefined ? "" : Number(value).toLocaleString("en-US", { maximumSignificantDigits: digits });
  const share = (value) => (value === null || value === undefined ? "" : (100 * value).toFixed(1) + " %");

  setMode();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setMode);
  new MutationObserver(paintAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  addEventListener("DOMContentLoaded", () => {
    new MutationObserver(paintAll).observe(document.body, { childList: true, subtree: true });
  });
  return { remember, mode, saveImage, saveCsv, address, gridChanged, load, show, openRow, cellLink, figure, share, paintAll, chartTheme };
})();
