/** What the world is made of: every attribute, its values in label order, and the colours they are drawn in. */

/** Side of every picture in pixels. */
export const IMAGE_SIZE = 64;

export const COLORS = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown'] as const;
export const SHAPES = [
  'circle',
  'square',
  'triangle',
  'star',
  'heart',
  'diamond',
  'cross',
  'crescent',
] as const;
export const TEXTURES = ['plain', 'striped', 'dotted', 'checkered', 'metallic'] as const;
/** `above`: the first object is higher in the picture (smaller y) than the second. */
export const RELATIONS = ['left', 'right', 'above', 'below', 'next'] as const;
export const BACKGROUNDS = ['white', 'cream', 'gray', 'sky', 'meadow', 'night'] as const;

export type Color = (typeof COLORS)[number];
export type Shape = (typeof SHAPES)[number];
export type Texture = (typeof TEXTURES)[number];
export type Relation = (typeof RELATIONS)[number];
export type Background = (typeof BACKGROUNDS)[number];

/** The T2I-CompBench categories that a compositional scene can belong to, plus the two simplest ones. */
export const SCENE_CATEGORIES = [
  'single',
  'count',
  'color',
  'shape',
  'texture',
  'spatial',
  'non-spatial',
  'complex',
] as const;
export type SceneCategory = (typeof SCENE_CATEGORIES)[number];

/** From palest to darkest; six classes, as skin-tone scales for dermatology have. */
export const SKIN_TONES = ['pale', 'light', 'tan', 'olive', 'brown', 'dark'] as const;
export const HAIR_COLORS = ['black', 'brown', 'blond', 'red', 'gray'] as const;
export const HAIR_LENGTHS = ['short', 'long'] as const;
export const AGES = ['young', 'old'] as const;
export const STYLES = ['flat', 'outlined', 'shaded'] as const;

export type SkinTone = (typeof SKIN_TONES)[number];
export type HairColor = (typeof HAIR_COLORS)[number];
export type HairLength = (typeof HAIR_LENGTHS)[number];
export type Age = (typeof AGES)[number];
export type Style = (typeof STYLES)[number];

export type Rgb = readonly [red: number, green: number, blue: number];

export const COLOR_RGB: Readonly<Record<Color, Rgb>> = {
  red: [222, 30, 38],
  orange: [250, 138, 16],
  yellow: [247, 214, 24],
  green: [36, 158, 66],
  blue: [34, 84, 220],
  purple: [128, 44, 176],
  pink: [252, 132, 190],
  brown: [124, 66, 20],
};

export const SKIN_RGB: Readonly<Record<SkinTone, Rgb>> = {
  pale: [254, 229, 212],
  light: [244, 200, 164],
  tan: [222, 166, 116],
  olive: [182, 124, 76],
  brown: [132, 82, 46],
  dark: [80, 46, 30],
};

export const HAIR_RGB: Readonly<Record<HairColor, Rgb>> = {
  black: [24, 22, 28],
  brown: [104, 58, 24],
  blond: [240, 206, 92],
  red: [190, 68, 22],
  gray: [186, 186, 192],
};

/** One object of a compositional scene; the centre and the radius are in pixels. */
export interface SceneObject {
  readonly color: Color;
  readonly shape: Shape;
  readonly texture: Texture;
  readonly x: number;
  readonly y: number;
  /** Half the side of the square that the shape fills. */
  readonly radius: number;
}

export interface SceneLabels {
  readonly kind: 'scene';
  readonly category: SceneCategory;
  readonly background: Background;
  readonly objects: readonly SceneObject[];
  /** Relation of the first object to the second, in scenes of two. */
  readonly relation: Relation | null;
}

export interface HeadshotLabels {
  readonly kind: 'headshot';
  readonly skinTone: SkinTone;
  readonly eyeglasses: boolean;
  readonly hairLength: HairLength;
  readonly hairColor: HairColor;
  readonly hat: boolean;
  readonly beard: boolean;
  readonly smile: boolean;
  readonly age: Age;
  readonly style: Style;
}

export type WorldLabels = SceneLabels | HeadshotLabels;

/** Which of the two worlds. */
export type WorldKind = WorldLabels['kind'];
