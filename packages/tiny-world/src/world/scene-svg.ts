/** Compositional scenes as SVG fragments in a 64 x 64 coordinate system. */
import type { PhiloxSequence } from '@equipoise/core';
import type { Background, Rgb, SceneLabels, SceneObject, Shape } from './attributes.js';
import { COLOR_RGB, IMAGE_SIZE } from './attributes.js';
import { between } from './bias.js';

/** `rgb(…)` of a colour mixed towards `target` by `amount` (0 keeps it). */
export function tint(color: Rgb, target: Rgb = color, amount = 0): string {
  const mixed = color.map((channel, index) =>
    Math.round(channel + ((target[index] as number) - channel) * amount),
  );
  return `rgb(${mixed.join(',')})`;
}

export const WHITE: Rgb = [255, 255, 255];
export const BLACK: Rgb = [0, 0, 0];

/** Vertices of each shape in a square from -1 to 1, or null for those drawn with curves. */
function polygon(shape: Shape): readonly (readonly [number, number])[] | null {
  switch (shape) {
    case 'square':
      return [
        [-0.88, -0.88],
        [0.88, -0.88],
        [0.88, 0.88],
        [-0.88, 0.88],
      ];
    case 'triangle':
      return [
        [0, -0.95],
        [1, 0.85],
        [-1, 0.85],
      ];
    case 'diamond':
      return [
        [0, -1],
        [0.72, 0],
        [0, 1],
        [-0.72, 0],
      ];
    case 'cross':
      return [
        [-0.34, -1],
        [0.34, -1],
        [0.34, -0.34],
        [1, -0.34],
        [1, 0.34],
        [0.34, 0.34],
        [0.34, 1],
        [-0.34, 1],
        [-0.34, 0.34],
        [-1, 0.34],
        [-1, -0.34],
        [-0.34, -0.34],
      ];
    case 'star':
      return Array.from({ length: 10 }, (_, index): [number, number] => {
        const angle = -Math.PI / 2 + (index * Math.PI) / 5;
        const length = index % 2 === 0 ? 1.05 : 0.46;
        return [length * Math.cos(angle), length * Math.sin(angle) + 0.06];
      });
    default:
      return null;
  }
}

/** SVG path data of a shape of half-size `r` around (x, y). */
export function shapePath(shape: Shape, x: number, y: number, r: number): string {
  const at = (u: number, v: number): string => `${(x + u * r).toFixed(2)} ${(y + v * r).toFixed(2)}`;
  const arc = (radius: number, large: 0 | 1, sweep: 0 | 1): string =>
    `A${(radius * r).toFixed(2)} ${(radius * r).toFixed(2)} 0 ${large} ${sweep}`;
  const points = polygon(shape);
  if (points) return `M${points.map(([u, v]) => at(u, v)).join('L')}Z`;
  if (shape === 'circle')
    return `M${at(-0.96, 0)}${arc(0.96, 1, 1)} ${at(0.96, 0)}${arc(0.96, 1, 1)} ${at(-0.96, 0)}Z`;
  if (shape === 'crescent')
    return `M${at(0.35, -0.95)}${arc(1, 1, 0)} ${at(0.35, 0.95)}${arc(0.92, 0, 1)} ${at(0.35, -0.95)}Z`;
  return (
    `M${at(0, 0.95)}C${at(-1.75, -0.2)} ${at(-0.85, -1.35)} ${at(0, -0.52)}` +
    `C${at(0.85, -1.35)} ${at(1.75, -0.2)} ${at(0, 0.95)}Z`
  );
}

/** Paint of one object: definitions and the value of its `fill`. Ids carry `id`, unique in the document. */
function paint(object: SceneObject, id: string): { defs: string; fill: string } {
  const base = COLOR_RGB[object.color];
  const color = tint(base);
  const light = tint(base, WHITE, 0.82);
  const pattern = (size: number, body: string, turn = 0): { defs: string; fill: string } => ({
    defs:
      `<pattern id="${id}" width="${size}" height="${size}" patternUnits="userSpaceOnUse"` +
      ` patternTransform="translate(${object.x.toFixed(2)} ${object.y.toFixed(2)}) rotate(${turn})">` +
      `<rect width="${size}" height="${size}" fill="${color}"/>${body}</pattern>`,
    fill: `url(#${id})`,
  });
  switch (object.texture) {
    case 'striped':
      return pattern(6, `<rect width="6" height="2" fill="${light}"/>`, 0);
    case 'dotted':
      return pattern(7, `<circle cx="3.5" cy="3.5" r="1.75" fill="${light}"/>`, 45);
    case 'checkered':
      return pattern(
        8,
        `<rect width="4" height="4" fill="${light}"/><rect x="4" y="4" width="4" height="4" fill="${light}"/>`,
      );
    case 'metallic':
      return {
        defs:
          `<linearGradient id="${id}" x1="0" y1="0" x2="1" y2="1">` +
          `<stop offset="0.08" stop-color="${tint(base, BLACK, 0.5)}"/><stop offset="0.42" stop-color="${color}"/>` +
          `<stop offset="0.5" stop-color="${tint(base, WHITE, 0.9)}"/><stop offset="0.58" stop-color="${color}"/>` +
          `<stop offset="0.92" stop-color="${tint(base, BLACK, 0.5)}"/></linearGradient>`,
        fill: `url(#${id})`,
      };
    default:
      return { defs: '', fill: color };
  }
}

function background(kind: Background, random: PhiloxSequence, id: string): string {
  const full = (fill: string): string =>
    `<rect width="${IMAGE_SIZE}" height="${IMAGE_SIZE}" fill="${fill}"/>`;
  const vertical = (top: string, bottom: string): string =>
    `<linearGradient id="${id}bg" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="${top}"/>` +
    `<stop offset="1" stop-color="${bottom}"/></linearGradient>${full(`url(#${id}bg)`)}`;
  switch (kind) {
    case 'white':
      return full('rgb(252,252,252)');
    case 'cream':
      return full('rgb(250,240,222)');
    case 'gray':
      return full('rgb(206,208,212)');
    case 'sky':
      return vertical('rgb(184,216,242)', 'rgb(226,241,250)');
    case 'meadow': {
      const horizon = between(random, 30, 44).toFixed(1);
      return `${vertical('rgb(200,226,246)', 'rgb(226,240,250)')}<path d="M0 ${horizon}Q32 ${(Number(horizon) - 5).toFixed(1)} 64 ${horizon}V64H0Z" fill="rgb(188,222,164)"/>`;
    }
    case 'night': {
      const stars = Array.from(
        { length: 6 },
        () =>
          `<circle cx="${between(random, 2, 62).toFixed(1)}" cy="${between(random, 2, 62).toFixed(1)}" r="0.8"/>`,
      );
      return `${full('rgb(38,42,66)')}<g fill="rgb(200,204,220)">${stars.join('')}</g>`;
    }
  }
}

/** The fragment for one scene. `random` decides what no label records (horizon, stars). */
export function sceneSvg(scene: SceneLabels, random: PhiloxSequence, id: string): string {
  const parts = [background(scene.background, random, id)];
  scene.objects.forEach((object, index) => {
    const { defs, fill } = paint(object, `${id}p${index}`);
    const outline = tint(COLOR_RGB[object.color], BLACK, 0.35);
    parts.push(
      `${defs}<path d="${shapePath(object.shape, object.x, object.y, object.radius)}" fill="${fill}"` +
        ` stroke="${outline}" stroke-width="0.9" stroke-linejoin="round"/>`,
    );
  });
  return parts.join('');
}
