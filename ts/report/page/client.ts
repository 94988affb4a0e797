// The script of `report.html`: draws the charts with uPlot from the numbers that the page holds. Runs in a browser, so
// it stands here as text; it reads nothing but the page and asks no network.

export const client = `
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const { step, loss, smooth, learningRate, gradNorm, tokensPerSecond, range, borders, evaluations } = data;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (value) => {
    if (value === null || value === undefined) return '–';
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
    return size >= 1000 ? value.toLocaleString('en-US', { maximumFractionDigits: 0 }) : value.toPrecision(4);
  };
  const tick = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return String(Number(value.toPrecision(3)).toExponential());
    return value.toLocaleString('en-US', { maximumFractionDigits: 6 });
  };
  const whole = [1, 2, 5].flatMap((factor) => Array.from({ length: 12 }, (_, i) => factor * 10 ** i)).sort((a, b) => a - b);
  // A few values far away, the first or the last ones, must not flatten all others; zooming in shows them.
  const lossRange = (_, min, max) => {
    if (min === null) return [0, 1];
    const [from, to] = [Math.max(min, range[0]), Math.min(max, range[1])];
    const margin = (to - from) * 0.04;
    return from < to ? [from - margin, to + margin] : [min - 1e-6, max + 1e-6];
  };
  const axis = (size) => ({
    stroke: colour('--faint'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { stroke: colour('--line'), width: 1 },
    font: '12px system-ui, sans-serif',
    size,
    values: (_, ticks) => ticks.map(tick),
  });
  const drawBorders = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour('--border');
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    for (const at of borders) {
      const x = plot.valToPos(at, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
    ctx.restore();
  };
  const value = (_, v) => number(v);
  const drawn = [];
  const draw = (id, height, columns, series, y = {}) => {
    const place = document.getElementById(id);
    if (place === null) return;
    const options = {
      width: place.clientWidth,
      height,
      scales: { x: { time: false }, y },
      axes: [{ ...axis(32), incrs: whole }, axis(62)],
      cursor: { sync: { key: 'step', scales: ['x', null] }, points: { size: 6 } },
      hooks: { drawAxes: [drawBorders] },
      series: [{ label: 'step', value: (_, v) => (v === null ? '–' : v.toLocaleString('en-US')) }, ...series],
    };
    drawn.push({ plot: new uPlot(options, columns, place), place, height });
  };
  const line = (label, stroke, width) =>
    ({ label, stroke: colour(stroke), width, points: { show: step.length < 40 }, spanGaps: false, value });
  const drawAll = () => {
    for (const { plot } of drawn.splice(0)) plot.destroy();
    const withEvaluations = evaluations.step.length > 0;
    const columns = withEvaluations
      ? uPlot.join([[step, loss, smooth], [evaluations.step, evaluations.loss]], [[0, 2, 2], [0, 2]])
      : [step, loss, smooth];
    const dots = { label: 'evaluation', stroke: colour('--eval'), fill: colour('--eval'), value, paths: () => null,
      points: { show: true, size: 8, fill: colour('--eval') } };
    draw('loss', 380, columns, [
      // Steps that only the evaluation has are no gaps of the loss.
      { ...line('loss', '--raw', 1), gaps: (plot, index, from, to, gaps) => gaps },
      line('smoothed', '--smooth', 2.4),
      ...(withEvaluations ? [dots] : []),
    ], { range: lossRange });
    draw('rate', 200, [step, learningRate], [line('learning rate', '--plain', 1.6)]);
    draw('norm', 200, [step, gradNorm], [line('gradient norm', '--plain', 1.2)]);
    draw('speed', 200, [step, tokensPerSecond], [line('tokens/s', '--plain', 1.2)]);
  };
  drawAll();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  addEventListener('resize', () => {
    for (const { plot, place, height } of drawn) plot.setSize({ width: place.clientWidth, height });
  });
})();
`
