"""The style sheet of the report page."""

CSS = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5a6672; --line: #dde2e7;
  --band: #f5f7f9; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
main, header > div, footer > div { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { background: var(--ink); color: #fff; padding: 32px 0 26px; }
header h1 { margin: 0 0 8px; font-size: 30px; line-height: 1.2; }
header p { margin: 6px 0; max-width: 96ch; color: #dbe3ea; }
header .note { color: #ffd58a; font-weight: 600; }
h2 { margin: 44px 0 8px; font-size: 22px; border-bottom: 2px solid var(--ink);
  padding-bottom: 4px; }
h3 { margin: 26px 0 6px; font-size: 17px; }
h3 small { font-weight: 400; color: var(--soft); }
p { max-width: 82ch; margin: 8px 0; }
.soft, small, figcaption { color: var(--soft); font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 12px 0; font-variant-numeric: tabular-nums;
  font-size: 15px; }
th, td { padding: 7px 14px; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--band); font-size: 14px; border-bottom: 2px solid #b9c2cb; }
thead th small { display: block; font-weight: 400; font-size: 12.5px; }
tbody th { white-space: nowrap; }
td b { font-size: 17px; font-weight: 650; }
td small { display: block; font-size: 12.5px; font-weight: 400; white-space: nowrap; }
.tight th, .tight td { padding: 5px 7px; font-size: 13px; }
.tight td { white-space: nowrap; }
tr.aside td, tr.aside th { color: var(--soft); background: var(--band);
  font-weight: 400; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 2px;
  margin-right: 7px; }
.up { color: #005a8c; font-weight: 600; } .down { color: #a34700; font-weight: 600; }
figure { margin: 12px 0 20px; } figure img { max-width: 100%; height: auto;
  display: block; }
details { margin: 10px 0; border: 1px solid var(--line); border-radius: 6px;
  padding: 8px 14px; } summary { cursor: pointer; font-weight: 600; }
pre { overflow: auto; max-height: 460px; background: var(--band); padding: 12px;
  font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px;
  margin: 10px 0; } dt { font-weight: 600; } dd { margin: 0; max-width: 76ch; }
.key span { display: inline-block; width: 26px; border-top: 3px solid #56b4e9;
  vertical-align: middle; margin: 0 6px 0 0; }
.key .prediction { border-top: 3px dashed #e69f00; margin-left: 18px; }
h4 { margin: 18px 0 0; font-size: 15px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(500px, 100%),
  1fr)); gap: 0 18px; } .pair figure { margin: 6px 0 10px; }
footer { margin-top: 48px; background: var(--band); border-top: 1px solid var(--line);
  padding: 18px 0 26px; }
@media print { header { background: #fff; color: var(--ink); }
  header p, header .note { color: var(--ink); } figure, tr { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; } .scroll, pre { overflow: visible; }
  pre { max-height: none; white-space: pre-wrap; }
  @page { size: A4 landscape; margin: 12mm; }
  main, header > div { padding: 0; } td b { font-size: 13px; }
  table, thead th, .tight th, .tight td { font-size: 11px; }
  th, td, .tight th, .tight td { padding: 3px 6px; }
  td small, thead th small { font-size: 10px; }
  details::details-content { content-visibility: visible; } }
"""
