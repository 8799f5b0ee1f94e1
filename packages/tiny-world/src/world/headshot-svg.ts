/** Cartoon headshots as SVG fragments in a 64 x 64 coordinate system. */
import type { PhiloxSequence } from '@equipoise/core';
import type { HeadshotLabels, Rgb } from './attributes.js';
import { HAIR_RGB, IMAGE_SIZE, SKIN_RGB } from './attributes.js';
import { between } from './bias.js';
import { BLACK, tint, WHITE } from './scene-svg.js';

const BACKDROPS: readonly Rgb[] = [
  [216, 230, 242],
  [236, 226, 206],
  [206, 226, 206],
  [232, 212, 222],
  [200, 202, 212],
  [246, 246, 246],
];
const CLOTHES: readonly Rgb[] = [
  [44, 88, 168],
  [168, 44, 56],
  [52, 128, 84],
  [96, 64, 140],
  [60, 64, 76],
  [214, 150, 44],
];
const HATS: readonly Rgb[] = [
  [36, 62, 140],
  [160, 32, 48],
  [28, 110, 74],
  [120, 60, 150],
  [230, 150, 30],
];
const FRAMES: readonly Rgb[] = [
  [16, 16, 20],
  [16, 16, 20],
  [120, 20, 32],
  [24, 44, 120],
];

/** Geometry and colours of one face; the face's own frame has its centre at the origin. */
interface Face {
  readonly labels: HeadshotLabels;
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly skin: Rgb;
  readonly hair: Rgb;
  /** Fill of the skin: a colour, or a gradient in the shaded style. */
  readonly skinFill: string;
  readonly line: string;
  readonly lineWidth: number;
}

const n = (value: number): string => value.toFixed(2);

/** The fragment for one headshot. `random` decides pose, proportions and clothes, which no label records. */
export function headshotSvg(labels: HeadshotLabels, random: PhiloxSequence, id: string): string {
  const skin = SKIN_RGB[labels.skinTone];
  const shaded = labels.style === 'shaded';
  const outlined = labels.style === 'outlined';
  const face: Face = {
    labels,
    id,
    width: between(random, 12.2, 14.2),
    height: between(random, 15.2, 17.2),
    skin,
    hair: HAIR_RGB[labels.hairColor],
    skinFill: shaded ? `url(#${id}s)` : tint(skin),
    line: outlined ? 'rgb(26,20,24)' : tint(skin, BLACK, 0.3),
    lineWidth: outlined ? 1.1 : 0.4,
  };
  const x = 32 + between(random, -5, 5);
  const y = 32 + between(random, -3, 3);
  const scale = between(random, 0.98, 1.16);
  const turn = between(random, -6, 6);
  const defs = shaded
    ? `<radialGradient id="${id}s" cx="0.4" cy="0.35" r="0.75"><stop offset="0.3" stop-color="${tint(skin, WHITE, 0.1)}"/>` +
      `<stop offset="1" stop-color="${tint(skin, BLACK, 0.22)}"/></radialGradient>`
    : '';
  const body = [
    labels.hairLength === 'long' ? longHair(face) : '',
    neckAndShoulders(face, random.pick(CLOTHES)),
    head(face),
    labels.age === 'old' ? wrinkles(face) : '',
    labels.beard ? beard(face) : '',
    eyes(face),
    nose(face),
    mouth(face),
    labels.eyeglasses ? eyeglasses(face, random.pick(FRAMES), random.uniform() < 0.5) : '',
    fringe(face, random.uniform()),
    labels.hat ? hat(face, random.pick(HATS), random.int(2)) : '',
  ];
  return (
    `${backdrop(random, id)}${defs}<g transform="translate(${n(x)} ${n(y)}) rotate(${n(turn)}) scale(${n(scale)})">` +
    `${body.join('')}</g>`
  );
}

function backdrop(random: PhiloxSequence, id: string): string {
  const first = random.pick(BACKDROPS);
  const kind = random.int(3);
  const full = (fill: string): string =>
    `<rect width="${IMAGE_SIZE}" height="${IMAGE_SIZE}" fill="${fill}"/>`;
  if (kind === 0) return full(tint(first));
  if (kind === 1) {
    return (
      `<linearGradient id="${id}b" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="${tint(first)}"/>` +
      `<stop offset="1" stop-color="${tint(first, BLACK, 0.2)}"/></linearGradient>${full(`url(#${id}b)`)}`
    );
  }
  return `${full(tint(first))}<circle cx="32" cy="30" r="27" fill="${tint(first, WHITE, 0.55)}"/>`;
}

function stroke(face: Face): string {
  return ` stroke="${face.line}" stroke-width="${face.lineWidth}" stroke-linejoin="round"`;
}

function hairStroke(face: Face): string {
  const line = face.labels.style === 'outlined' ? face.line : tint(face.hair, BLACK, 0.25);
  return ` fill="${tint(face.hair)}" stroke="${line}" stroke-width="${face.lineWidth}"`;
}

function longHair(face: Face): string {
  const w = face.width + 4.2;
  const h = face.height;
  return (
    `<path d="M${n(-w)} ${n(h + 7)}C${n(-w - 2)} ${n(h * 0.3)} ${n(-w)} ${n(-h - 5)} 0 ${n(-h - 4)}` +
    `C${n(w)} ${n(-h - 5)} ${n(w + 2)} ${n(h * 0.3)} ${n(w)} ${n(h + 7)}Z"${hairStroke(face)}/>`
  );
}

function neckAndShoulders(face: Face, clothes: Rgb): string {
  const h = face.height;
  const line = face.labels.style === 'outlined' ? face.line : tint(clothes, BLACK, 0.3);
  return (
    `<rect x="-5" y="${n(h - 6)}" width="10" height="14" fill="${tint(face.skin, BLACK, 0.12)}"${stroke(face)}/>` +
    `<path d="M-24 46C-23 ${n(h + 8)} -12 ${n(h + 5)} -6 ${n(h + 4)}Q0 ${n(h + 9)} 6 ${n(h + 4)}` +
    `C12 ${n(h + 5)} 23 ${n(h + 8)} 24 46Z" fill="${tint(clothes)}" stroke="${line}" stroke-width="${face.lineWidth}"/>`
  );
}

function head(face: Face): string {
  const { width: w, height: h } = face;
  const ears = [-1, 1].map(
    (side) =>
      `<ellipse cx="${n(side * w)}" cy="1" rx="2.4" ry="3.2" fill="${face.skinFill}"${stroke(face)}/>`,
  );
  return `${ears.join('')}<ellipse rx="${n(w)}" ry="${n(h)}" fill="${face.skinFill}"${stroke(face)}/>`;
}

/** Line colour that is visible on every skin tone. */
function crease(face: Face): string {
  const dark = face.labels.skinTone === 'dark' || face.labels.skinTone === 'brown';
  return dark ? tint(face.skin, WHITE, 0.42) : tint(face.skin, BLACK, 0.48);
}

function wrinkles(face: Face): string {
  const { width: w, height: h } = face;
  const forehead = [0.5, 0.36].map(
    (v) => `M${n(-w * 0.5)} ${n(-h * v)}Q0 ${n(-h * v - 1.6)} ${n(w * 0.5)} ${n(-h * v)}`,
  );
  const cheeks = [-1, 1].map(
    (side) =>
      `M${n(side * w * 0.36)} ${n(h * 0.16)}Q${n(side * w * 0.6)} ${n(h * 0.3)} ${n(side * w * 0.56)} ${n(h * 0.52)}`,
  );
  // Below the eyes, where neither a hat nor a beard hides them.
  const bags = [-1, 1].map(
    (side) =>
      `M${n(side * w * 0.24)} ${n(h * 0.13)}Q${n(side * w * 0.44)} ${n(h * 0.24)} ${n(side * w * 0.68)} ${n(h * 0.1)}`,
  );
  const path = [...forehead, ...cheeks, ...bags].join('');
  return `<path d="${path}" fill="none" stroke="${crease(face)}" stroke-width="1.2" stroke-linecap="round"/>`;
}

function beard(face: Face): string {
  const { width: w, height: h } = face;
  return (
    `<path d="M${n(-w * 0.97)} ${n(h * 0.16)}C${n(-w * 0.9)} ${n(h * 0.95)} ${n(-w * 0.4)} ${n(h * 1.28)} 0 ${n(h * 1.28)}` +
    `C${n(w * 0.4)} ${n(h * 1.28)} ${n(w * 0.9)} ${n(h * 0.95)} ${n(w * 0.97)} ${n(h * 0.16)}` +
    `C${n(w * 0.6)} ${n(h * 0.4)} ${n(w * 0.3)} ${n(h * 0.28)} 0 ${n(h * 0.3)}` +
    `C${n(-w * 0.3)} ${n(h * 0.28)} ${n(-w * 0.6)} ${n(h * 0.4)} ${n(-w * 0.97)} ${n(h * 0.16)}Z"${hairStroke(face)}/>`
  );
}

function eyes(face: Face): string {
  const { width: w, height: h } = face;
  const brow = face.labels.hairColor === 'gray' ? 'rgb(150,150,156)' : 'rgb(34,24,20)';
  return [-1, 1]
    .map((side) => {
      const x = side * w * 0.42;
      return (
        `<ellipse cx="${n(x)}" cy="${n(-h * 0.06)}" rx="2.3" ry="1.7" fill="white"/>` +
        `<circle cx="${n(x)}" cy="${n(-h * 0.06)}" r="1.3" fill="rgb(22,18,22)"/>` +
        `<path d="M${n(x - 2.6)} ${n(-h * 0.25)}Q${n(x)} ${n(-h * 0.32)} ${n(x + 2.6)} ${n(-h * 0.25)}"` +
        ` fill="none" stroke="${brow}" stroke-width="0.9"/>`
      );
    })
    .join('');
}

function nose(face: Face): string {
  const h = face.height;
  return `<path d="M0 ${n(-h * 0.02)}L-1.4 ${n(h * 0.24)}H1" fill="none" stroke="${crease(face)}" stroke-width="0.8"/>`;
}

function mouth(face: Face): string {
  const { width: w, height: h } = face;
  const y = h * 0.5;
  if (!face.labels.smile) {
    return `<path d="M${n(-w * 0.3)} ${n(y + 0.8)}H${n(w * 0.3)}" stroke="rgb(120,30,36)" stroke-width="1.7" stroke-linecap="round"/>`;
  }
  return (
    `<path d="M${n(-w * 0.46)} ${n(y - 1.8)}H${n(w * 0.46)}Q${n(w * 0.34)} ${n(y + 4.6)} 0 ${n(y + 4.6)}` +
    `Q${n(-w * 0.34)} ${n(y + 4.6)} ${n(-w * 0.46)} ${n(y - 1.8)}Z" fill="white" stroke="rgb(150,30,40)" stroke-width="1.1"/>`
  );
}

function eyeglasses(face: Face, frame: Rgb, round: boolean): string {
  const { width: w, height: h } = face;
  const pale = face.labels.skinTone === 'dark' || face.labels.skinTone === 'brown';
  const color = pale ? 'rgb(240,236,220)' : tint(frame);
  const y = -h * 0.06;
  const lenses = [-1, 1].map((side) => {
    const x = side * w * 0.42;
    return round
      ? `<circle cx="${n(x)}" cy="${n(y)}" r="4.5"/>`
      : `<rect x="${n(x - 4.6)}" y="${n(y - 3.7)}" width="9.2" height="7.4" rx="1.2"/>`;
  });
  const inner = w * 0.42 - 4.5;
  return (
    `<g fill="rgba(220,236,250,0.35)" stroke="${color}" stroke-width="1.5">${lenses.join('')}` +
    `<path d="M${n(-inner)} ${n(y - 0.6)}H${n(inner)}M${n(-w * 0.42 - 4.5)} ${n(y)}L${n(-w)} ${n(y - 1)}` +
    `M${n(w * 0.42 + 4.5)} ${n(y)}L${n(w)} ${n(y - 1)}" fill="none"/></g>`
  );
}

/** Hair on the skull, with a parting that `side` (0..1) shifts. */
function fringe(face: Face, side: number): string {
  const { width: w, height: h } = face;
  const part = (side - 0.5) * w * 0.9;
  // Under a hat the sideburns are all that shows of short hair.
  const [drop, inner] = face.labels.hat
    ? [0.12, 0.74]
    : [face.labels.hairLength === 'long' ? 0.05 : -0.2, 0.95];
  return (
    `<path d="M${n(-w - 1.2)} ${n(h * drop)}C${n(-w - 2)} ${n(-h * 1.3)} ${n(-w * 0.4)} ${n(-h * 1.34)} 0 ${n(-h * 1.3)}` +
    `C${n(w * 0.4)} ${n(-h * 1.34)} ${n(w + 2)} ${n(-h * 1.3)} ${n(w + 1.2)} ${n(h * drop)}` +
    `C${n(w * inner)} ${n(-h * 0.5)} ${n(w * 0.5)} ${n(-h * 0.5)} ${n(part)} ${n(-h * 0.68)}` +
    `C${n(-w * 0.5)} ${n(-h * 0.5)} ${n(-w * inner)} ${n(-h * 0.5)} ${n(-w - 1.2)} ${n(h * drop)}Z"${hairStroke(face)}/>`
  );
}

function hat(face: Face, color: Rgb, kind: number): string {
  const { width: w, height: h } = face;
  const line = face.labels.style === 'outlined' ? face.line : tint(color, BLACK, 0.3);
  const crown =
    kind === 0
      ? `<path d="M${n(-w * 0.86)} ${n(-h * 0.6)}V${n(-h * 1.42)}H${n(w * 0.86)}V${n(-h * 0.6)}Z"/>`
      : `<path d="M${n(-w - 1.4)} ${n(-h * 0.6)}C${n(-w - 1)} ${n(-h * 1.62)} ${n(w + 1)} ${n(-h * 1.62)} ${n(w + 1.4)} ${n(-h * 0.6)}Z"/>`;
  const brim = kind === 0 ? w + 6 : w + 2;
  return (
    `<g fill="${tint(color)}" stroke="${line}" stroke-width="${face.lineWidth + 0.3}">${crown}` +
    `<rect x="${n(-brim)}" y="${n(-h * 0.68)}" width="${n(brim * 2)}" height="4" rx="1.6" fill="${tint(color, BLACK, 0.25)}"/></g>`
  );
}
