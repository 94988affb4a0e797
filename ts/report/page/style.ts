// The look of `report.html`, on light and on dark ground.

export const style = `
:root{color-scheme:light dark;--ground:#fff;--panel:#f6f7f9;--line:#e1e5ea;--text:#15191f;--faint:#56606d;
--raw:#2f6fde59;--smooth:#1f57c3;--plain:#2f6fde;--eval:#d9480f;--border:#9aa3af;--good:#1b7f4b;--bad:#c22f2f}
@media(prefers-color-scheme:dark){:root{--ground:#14171c;--panel:#1b2027;--line:#2b313a;--text:#eceff3;--faint:#a4adb9;
--raw:#5b93ea59;--smooth:#d5e5ff;--plain:#5b93ea;--eval:#ff9f5a;--border:#6b7480;--good:#5ac48d;--bad:#ff8080}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:28px 24px 60px;background:var(--ground);color:var(--text);
font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
h1{font-size:22px;margin:0;overflow-wrap:anywhere}
h2{font-size:16px;margin:36px 0 8px}
p{margin:4px 0;overflow-wrap:anywhere}
.faint{color:var(--faint)}.done{color:var(--good)}.failed,.interrupted{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums}
.tile span{color:var(--faint);font-size:13px}
.small{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:20px}
table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top;font-weight:400}
th{color:var(--faint)}
td.value{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:13px;white-space:pre-wrap;overflow-wrap:anywhere}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px;white-space:pre-wrap;font-size:13px}
summary{cursor:pointer;margin:10px 0}
noscript svg{max-width:100%;height:auto}
.u-legend{font-size:13px;text-align:left}
.u-legend .u-value{font-variant-numeric:tabular-nums;min-width:5em;text-align:left}
.u-select{background:#7f9fd033}
@media print{.small,.charts{break-inside:avoid}}
`
