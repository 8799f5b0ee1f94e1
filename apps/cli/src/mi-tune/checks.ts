/** Combinations of options that no run can use: refused before a model is loaded. */
import { invalid } from '@equipoise/core';
import { PICTURE_MI, requireScorerNames } from '@equipoise/mi-tune';

/** An option's name as the user writes it. */
type Naming<K extends string> = (key: K) => string;

interface ScorerChoice {
  readonly clip?: string | undefined;
  readonly scorer: readonly string[];
  readonly pictureMi: boolean;
  /** Of mi-tune build and run. */
  readonly select?: string;
  /** Of mi-tune train and run. */
  readonly choose?: string;
}

/** Whether finished pictures are scored by their MI: because it is asked for, or because something chooses by it. */
export function wantsPictureMi({ pictureMi, select, choose }: ScorerChoice): boolean {
  return pictureMi || select === 'picture' || select === PICTURE_MI || choose === PICTURE_MI;
}

/** Name, program and arguments of a `--scorer`. */
export function parseScorer(text: string): { name: string; command: string[] } {
  const match = /^([^=\s]+)=(.*)$/s.exec(text);
  const command = (match?.[2] ?? '').split(' ').filter((word) => word !== '');
  if (match === null || command.length === 0) throw invalid('--scorer', 'NAME=COMMAND', text);
  return { name: match[1] as string, command };
}

/** Names of the scores that a command line asks for, besides MI. */
function scoreNames(choice: ScorerChoice): string[] {
  return [
    ...(wantsPictureMi(choice) ? [PICTURE_MI] : []),
    ...(choice.clip === undefined ? [] : ['clip']),
    ...choice.scorer.map((text) => parseScorer(text).name),
  ];
}

export function checkScorers(choice: ScorerChoice, name: Naming<'scorer'>): void {
  requireScorerNames(scoreNames(choice), name('scorer'));
}

/** @param choice `sweep`: a finished one, which knows its candidates and scores itself */
export function checkSelection(
  {
    top,
    candidates,
    sweep,
    ...choice
  }: ScorerChoice & { top: number; candidates: number; sweep?: string | undefined },
  name: Naming<'top' | 'select'>,
): void {
  if (sweep !== undefined) return;
  if (top > candidates) throw invalid(name('top'), `at most the ${candidates} candidates of a prompt`, top);
  requireKnownScore(name('select'), choice.select ?? 'mi', [
    'mi',
    'random',
    'picture',
    ...scoreNames(choice),
  ]);
}

export function checkValidation(
  { validate, ...choice }: ScorerChoice & { validate?: string | undefined; choose: string },
  name: Naming<'choose'>,
): void {
  if (validate === undefined && choice.choose !== 'mi')
    throw invalid(name('choose'), 'nothing without --validate', choice.choose);
  requireKnownScore(name('choose'), choice.choose, ['mi', PICTURE_MI, ...scoreNames(choice)]);
}

function requireKnownScore(option: string, score: string, known: readonly string[]): void {
  if (known.includes(score)) return;
  const asked = 'Ask for another score with --clip or --scorer NAME=COMMAND.';
  throw invalid(option, `one of ${[...new Set(known)].join(', ')}`, score, { hints: [asked] });
}
