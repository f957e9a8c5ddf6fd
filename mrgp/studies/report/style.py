"""Style of reports: dark on white, readable on a narrow screen and on paper."""

CSS = """
:root { color-scheme: light; --line: #d0d4da; --dim: #4a5160; --good: #17603a; --look: #7a4b00; --bad: #9b1420; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 62rem; background: #fff; color: #16181d;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0; }
a { color: #0b4f8a; }
.kind { color: var(--dim); margin: 0 0 .2rem; font-weight: 600; }
.verdict p { font-size: 1.08rem; }
.banner { border: 2px solid var(--look); padding: .5rem .8rem; margin: 1rem 0; }
.count { font-weight: 600; }
nav ul { list-style: none; padding: 0; margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
dl { display: grid; grid-template-columns: minmax(8rem, 15rem) 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
.lights { list-style: none; padding: 0; margin: .6rem 0; }
.lights li { display: grid; grid-template-columns: 5rem 1fr; gap: 0 .8rem; padding: .55rem 0;
  border-bottom: 1px solid var(--line); break-inside: avoid; }
.state { align-self: start; text-align: center; border-radius: .3rem; padding: .1rem .4rem; color: #fff;
  font-weight: 600; font-size: .9rem; }
.good .state { background: var(--good); }
.look .state { background: var(--look); }
.bad .state { background: var(--bad); }
.number { color: var(--dim); }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
caption { text-align: left; font-weight: 600; padding: .2rem 0 .3rem; }
th, td { padding: .25rem 1.1rem .25rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid #6b7280; font-weight: 600; }
thead th { white-space: normal; vertical-align: bottom; }
tbody th { border-bottom: 1px solid var(--line); font-weight: 400; }
td { border-bottom: 1px solid var(--line); }
.words { text-align: left; }
.below { color: var(--dim); font-size: .9rem; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .3rem; color: var(--dim); font-size: .93rem; }
pre, code { font: .87rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: #f4f5f7; border: 1px solid var(--line); padding: .6rem .8rem; overflow-x: auto; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 2.5rem; color: var(--dim); font-size: .9rem; }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .lights li { grid-template-columns: 1fr; } .state { justify-self: start; margin-bottom: .2rem; }
  h1 { font-size: 1.4rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  .state { color: #000; background: none !important; border: 1.5pt solid #000; }
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  table { font-size: 8.5pt; } th, td { padding-right: .7rem; white-space: normal; }
  h2, h3, caption { break-after: avoid; } tr { break-inside: avoid; }
  figure img { max-height: 21cm; width: auto; }
}
@page { margin: 1.6cm; }
"""
