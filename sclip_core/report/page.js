// Sorts a table by the column whose head is clicked: numbers downwards first, names upwards; what
// has no value stays at the end. Before a page is printed everything that is folded is opened.
// On a narrow page tables are laid out as blocks: roles say that they are tables still. What has to
// be scrolled sideways can be reached by the keyboard.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    if ("fixed" in head.dataset) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, heads, column));
  }
}

function sort(table, heads, column) {
  const head = heads[column];
  const numeric = head.classList.contains("n");
  const before = head.getAttribute("aria-sort");
  const down = before ? before === "ascending" : numeric;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => {
    const cell = row.cells[column];
    return numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => {
    if (!numeric) return down ? b.localeCompare(a) : a.localeCompare(b);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return down ? b - a : a - b;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function name(elements, role) {
  for (const element of elements) element.setAttribute("role", role);
}

for (const table of document.querySelectorAll("table")) {
  name([table], "table");
  name(table.querySelectorAll("thead, tbody"), "rowgroup");
  name(table.rows, "row");
  name(table.querySelectorAll("thead th"), "columnheader");
  name(table.querySelectorAll("tbody th"), "rowheader");
  name(table.querySelectorAll("td"), "cell");
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".wide")) resized.observe(box);

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
