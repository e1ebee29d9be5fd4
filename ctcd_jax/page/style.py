"""The style sheet of our pages: light and dark, narrow and wide, on screen and on paper."""

# After Okabe and Ito's palette, safe for colour-blind readers; darker, or paler at night, so that --c0 ... --c7, --ink
# and --quiet can all be read as text on --paper and on --wash. Violet stands for their sky blue, ink for black.
STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #22252a; --quiet: #5b6067; --rule: #dddcd6; --wash: #f3f2ed;
  --c0: #0068a5; --c1: #b84f00; --c2: #007a5a; --c3: #a8457f; --c4: #7d6300; --c5: #6b4fc0; --c6: #22252a;
  --c7: #8c5a2b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e4e4df; --quiet: #9da2a8; --rule: #34383d; --wash: #1e2124; --c0: #56a8e0;
    --c1: #f08a3c; --c2: #35c39a; --c3: #e08bbd; --c4: #e0c040; --c5: #b3a1f5; --c6: #e4e4df; --c7: #c89a6a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.75rem; font-weight: 650; letter-spacing: -0.015em; line-height: 1.2; margin: 0 0 0.6rem;
  text-wrap: balance; }
a { color: var(--c0); }
:focus-visible { outline: 3px solid var(--c0); outline-offset: 3px; border-radius: 2px; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.4rem; padding: 0; margin: 1.2rem 0 0;
  font-size: 0.9rem; }
nav a { display: inline-block; padding: 0.25rem 0; }
h2 { font-size: 1.2rem; font-weight: 650; margin: 3rem 0 0.4rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 0.95rem; font-weight: 600; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
section > h3 { font-size: 1rem; margin: 2rem 0 0; }
p { margin: 0.4rem 0 0.8rem; max-width: 44rem; }
.lead { font-size: 1.08rem; }
.note, figcaption, .caption { color: var(--quiet); font-size: 0.85rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 2rem 2.5rem;
  margin: 1rem 0; }
figure { margin: 0; min-width: 0; max-width: 32rem; }
figcaption { margin-top: 0.3rem; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.25rem 1.4rem; padding: 0; margin: 0.8rem 0 0;
  font-size: 0.9rem; }
.legend li { overflow-wrap: anywhere; }
.legend svg { display: inline-block; width: 3rem; height: 1rem; vertical-align: -0.15em; margin-right: 0.45rem; }
figure .legend { font-size: 0.85rem; margin: 0.2rem 0 0; }
.chart text { font-size: 13px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
.chart .end, .chart .mark { font-weight: 600; }
.chart .mark { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.chart path { fill: none; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .axis { stroke: var(--quiet); stroke-width: 1; }
.chart .thin { stroke-width: 1.1; opacity: 0.55; stroke-linejoin: round; stroke-linecap: round; }
.chart .marks { stroke-width: 1.4; }
.chart .bar { fill: var(--c0); }
.chart .bold { stroke-width: 2.6; stroke-linejoin: round; stroke-linecap: round; }
.cohort text { font-size: 13px; fill: var(--ink); text-anchor: middle; }
.cohort .edges text { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.cohort .name { font-weight: 650; font-size: 15px; }
.cohort .detail { fill: var(--quiet); }
.cohort .weight { font-weight: 600; }
.cohort rect { fill: var(--wash); stroke: var(--c0); stroke-width: 1.6; }
.cohort .frozen rect { fill: none; stroke: var(--quiet); stroke-dasharray: 5 4; }
.cohort .edge { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.cohort .tip { fill: var(--ink); }
.caption { margin: 1.2rem 0 0.2rem; }
.scroll { overflow-x: auto; margin: 0.2rem 0 0.4rem; }
.downloads { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0.3rem 0 1rem; font-size: 0.8rem; }
.downloads a { padding: 0.2rem 0; overflow-wrap: anywhere; }
.downloads a::before { content: "↓ "; content: "↓ " / ""; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0 0.35rem 1.1rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
.name { text-align: left; }
.long { white-space: normal; min-width: 18rem; }
.wide td { white-space: normal; line-height: 1.3; }
.wide { font-size: 0.8rem; }
.wide thead th { max-width: 6rem; }
.wide th, .wide td { padding-left: 0.6rem; }
.wide tbody th { white-space: normal; min-width: 7rem; max-width: 9.5rem; overflow-wrap: anywhere; line-height: 1.3; }
th:first-child { padding-left: 0; }
thead th { color: var(--quiet); font-weight: 500; border-bottom-color: var(--quiet); vertical-align: bottom; }
thead th { white-space: normal; max-width: 8.5rem; }
tbody th { font-weight: 400; }
tbody th:first-child { font-weight: 600; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
details { margin: 0.5rem 0; }
details + p { margin-top: 1rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { background: var(--wash); padding: 0.8rem 1rem; overflow-x: auto; font-size: 0.8rem; line-height: 1.45; }
@media (max-width: 30rem) { .chart text { font-size: 15px; } .cohort text { font-size: 14px; }
  tbody th:first-child { white-space: normal; min-width: 6rem; max-width: 8rem; overflow-wrap: anywhere; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } nav, .downloads { display: none; }
  h2, h3 { break-after: avoid; } figure, tr { break-inside: avoid; } .scroll { overflow: visible; }
  th:first-child { position: static; } .grid { grid-template-columns: 1fr 1fr; } table { font-size: 8pt; }
  th, td { padding-left: 0.5rem; } .wide { font-size: 6.5pt; } .wide th, .wide td { padding-left: 0.3rem; } }
"""
