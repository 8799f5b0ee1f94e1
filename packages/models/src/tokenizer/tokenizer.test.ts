import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { fixText } from './fix-text.js';
import {
  ClipTokenizer,
  filesOfVocabulary,
  fromByteCharacters,
  hfFtfy,
  openai,
  readTokenizerFiles,
  type TruncationWarning,
  toByteCharacters,
  trainBpe,
} from './index.js';

interface Fixture {
  strings: string[];
  /** Ids of each string, with spaces between. */
  ids: string[];
  decoded: Record<string, string>;
  bang: { index: number[]; ids: string[] };
  batch: { texts: string[]; ids: number[][] };
}
const folder = fileURLToPath(new URL('../../fixtures/tokenizer/', import.meta.url));
const fixture = JSON.parse(await readFile(join(folder, 'strings.json'), 'utf8')) as Fixture;
const tokenizer = await ClipTokenizer.fromFolder(folder);

t.test('ids equal transformers for every string, adversarial ones included', async (t) => {
  t.ok(fixture.strings.length >= 2000);
  t.equal(fixture.ids.length, fixture.strings.length);
  const wrong = fixture.strings.filter((text, i) => tokenizer.encode(text).join(' ') !== fixture.ids[i]);
  t.strictSame(wrong, [], `${fixture.strings.length} strings`);
  const distinct = new Set(fixture.ids.join(' ').split(' ')).size;
  t.ok(distinct > 500, `${distinct} of 1200 tokens are exercised`);
});

t.test('decoded text equals transformers', async (t) => {
  const entries = Object.entries(fixture.decoded);
  t.ok(entries.length >= 200);
  const wrong = entries.filter(
    ([i, text]) => tokenizer.decode(tokenizer.encode(fixture.strings[Number(i)] as string)) !== text,
  );
  t.strictSame(wrong, []);
  t.equal(
    tokenizer.decode([tokenizer.bosId, ...tokenizer.encode('a cat'), tokenizer.eosId], { skipSpecial: true }),
    'a cat',
  );
});

t.test('Stable Diffusion 2 pads with "!", which then matches in the text', async (t) => {
  const padded = new ClipTokenizer({ ...(await readTokenizerFiles(folder)), padToken: '!' });
  t.equal(padded.padId, 0);
  t.ok(fixture.bang.index.length >= 100);
  const wrong = fixture.bang.index.filter((at, i) => {
    return padded.encode(fixture.strings[at] as string).join(' ') !== fixture.bang.ids[i];
  });
  t.strictSame(wrong, []);
  t.strictSame([...padded.encodeBatch(['a'], { maxLength: 6 }).ids].slice(3), [0, 0, 0]);
});

t.test('batches are padded, and truncated with a warning', async (t) => {
  const warnings: TruncationWarning[] = [];
  const batch = tokenizer.encodeBatch(fixture.batch.texts, {
    onWarning: (warning) => warnings.push(warning),
  });
  t.equal(batch.length, 77);
  t.strictSame([...batch.ids], fixture.batch.ids.flat());
  t.equal(warnings.length, 1);
  t.match(warnings[0], { kind: 'truncated', index: 0, kept: 75 });
  t.ok((warnings[0]?.removed.length ?? 0) > 10);
  t.equal(batch.ids[76], tokenizer.eosId);
  t.throws(() => tokenizer.encodeBatch(['a'], { maxLength: 1 }), /maxLength/);
  t.equal(tokenizer.encodeBatch([]).ids.length, 0);
});

t.test("OpenAI's tokenizer and ftfy, apart from its repair of mis-decoded text", async (t) => {
  const text = await readFile(join(folder, 'ftfy.json'), 'utf8');
  const { rows } = JSON.parse(text) as { rows: [text: string, fixed: string, ids: string][] };
  t.ok(rows.length >= 400, `${rows.length} strings`);
  t.strictSame(
    rows.filter(([from, fixed]) => fixText(from) !== fixed).map(([from]) => from),
    [],
    'ftfy',
  );
  const own = new ClipTokenizer(await readTokenizerFiles(folder), openai);
  t.strictSame(
    rows.filter(([from, , ids]) => own.encode(from).join(' ') !== ids).map(([from]) => from),
    [],
    'ids',
  );

  const repaired = new ClipTokenizer(await readTokenizerFiles(folder), hfFtfy);
  t.strictSame(repaired.encode('don’t &lt;'), tokenizer.encode("don't <"));
  t.strictSame(repaired.encode('<b> &lt;'), tokenizer.encode('<b> &lt;'), 'markup is left alone');
  t.strictSame(own.encode('<b> &lt;'), tokenizer.encode('<b> <'));
  t.strictSame(repaired.encode('<|EndOfText|>'), [tokenizer.eosId]);
  t.equal(own.cleaning, 'openai');
});

t.test('long input takes time in proportion, not squared', async (t) => {
  const ids = tokenizer.encode('a'.repeat(300_000) + '!'.repeat(300_000));
  t.ok(ids.length > 1000);
});

t.test('bytes and characters map both ways', async (t) => {
  for (const text of ['', 'a b', 'é猫🙂\u0000\u007f\u00ad', '\ufeffx']) {
    t.equal(fromByteCharacters(toByteCharacters(text)).replace(/^\ufeff/, ''), text.replace(/^\ufeff/, ''));
  }
  t.equal(toByteCharacters('\ud800'), toByteCharacters('\ufffd'), 'lone surrogates');
  t.equal(fromByteCharacters('Ã'), '\ufffd', 'a character cut in two');
});

t.test('training is repeatable, honours its size and reads back', async (t) => {
  const corpus = ['low lower lowest', 'new newer newest', 'low low low', 'été été'];
  const vocabulary = trainBpe(corpus, 524);
  t.strictSame(trainBpe(corpus, 524), vocabulary);
  t.equal(vocabulary.tokens.length, 524);
  t.strictSame(vocabulary.tokens.slice(0, 2), ['!', '"']);
  t.equal(vocabulary.tokens[256], '!</w>');
  t.strictSame(vocabulary.tokens.slice(-2), ['<|startoftext|>', '<|endoftext|>']);
  t.strictSame(vocabulary.merges[0], ['l', 'o'], 'the most frequent pair first');
  const made = new ClipTokenizer(filesOfVocabulary(vocabulary));
  t.equal(made.encode('low').length, 1);
  t.equal(made.decode(made.encode('Lowest ÉTÉ!')), 'lowest été !');
  t.ok(
    trainBpe(['aa'], 1000, { minFrequency: 1 }).tokens.length < 1000,
    'a small corpus gives a small vocabulary',
  );
  t.throws(() => trainBpe(corpus, 100), /vocabulary size.*514/);

  const home = t.testdir();
  await made.save(home);
  const again = await ClipTokenizer.fromFolder(home);
  t.strictSame(again.encode('lowest newest été'), made.encode('lowest newest été'));
  t.equal(again.vocabularySize, 524);
});

t.test('damaged tokenizer folders are refused by file and place', async (t) => {
  const home = t.testdir();
  const refuse = async (pattern: RegExp): Promise<void> => {
    await t.rejects(ClipTokenizer.fromFolder(home), pattern);
  };
  const vocabulary = { a: 0, 'b</w>': 1, 'ab</w>': 2, '<|startoftext|>': 3, '<|endoftext|>': 4 };
  const put = (name: string, value: unknown): Promise<void> =>
    writeFile(join(home, name), typeof value === 'string' ? value : JSON.stringify(value));

  await refuse(/expected vocab\.json and merges\.txt, or tokenizer\.json/);
  await put('vocab.json', vocabulary);
  await put('merges.txt', '#version: 0.2\na b</w>\n');
  t.strictSame((await ClipTokenizer.fromFolder(home)).encode('ab AB'), [2, 2]);
  t.strictSame(
    (await ClipTokenizer.fromFolder(home)).encode('ax'),
    [0, 4],
    'an unknown character is unk_token',
  );
  await put('merges.txt', 'a b</w> c\n');
  await refuse(/merges\.txt: line 1: expected two tokens/);
  await put('merges.txt', 'a a\n');
  await refuse(/merge 1 \(a a\): expected aa in the vocabulary/);
  await put('merges.txt', '');
  await put('vocab.json', { ...vocabulary, c: 0 });
  await refuse(/vocab\.json: "c": expected an id of its own/);
  await put('vocab.json', { ...vocabulary, c: -1 });
  await refuse(/vocab\.json: "c"/);
  await put('vocab.json', '{"a": ');
  await refuse(/vocab\.json: expected valid JSON/);
  await put('vocab.json', { a: 0 });
  await refuse(/bos_token "<\|startoftext\|>"/);
  await put('vocab.json', vocabulary);
  await put('tokenizer_config.json', { model_max_length: 1 });
  await refuse(/tokenizer_config\.json: model_max_length/);
});

t.test('tokenizer.json is read like the two files', async (t) => {
  const home = t.testdir();
  const files = await readTokenizerFiles(folder);
  const json = {
    added_tokens: [
      { id: files.vocabulary.get('<|endoftext|>'), content: '<|endoftext|>', special: true, rstrip: true },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace' }, { type: 'Lowercase' }],
    },
    model: {
      type: 'BPE',
      end_of_word_suffix: '</w>',
      vocab: Object.fromEntries(files.vocabulary),
      merges: files.merges,
    },
  };
  const path = join(home, 'tokenizer.json');
  await writeFile(path, JSON.stringify(json));
  const single = await ClipTokenizer.fromFolder(home);
  for (const text of fixture.strings.slice(0, 300)) {
    if (!text.includes('<|endoftext|>')) t.strictSame(single.encode(text), tokenizer.encode(text));
  }
  t.strictSame(
    single.encode('a<|endoftext|>  b'),
    tokenizer.encode('a<|endoftext|>b'),
    'rstrip swallows spaces',
  );
  await writeFile(path, JSON.stringify({ ...json, normalizer: null }));
  await t.rejects(ClipTokenizer.fromFolder(home), /tokenizer\.json: normalizer/);
  await writeFile(path, JSON.stringify({ ...json, model: { ...json.model, type: 'WordPiece' } }));
  await t.rejects(ClipTokenizer.fromFolder(home), /tokenizer\.json: model: expected BPE/);
});

const fullVocabulary = process.env['EQUIPOISE_CLIP_TOKENIZER'];
t.test(
  "OpenAI's vocabulary gives the published ids",
  { skip: fullVocabulary ? false : 'EQUIPOISE_CLIP_TOKENIZER names no folder with the full vocabulary' },
  async (t) => {
    const full = await ClipTokenizer.fromFolder(fullVocabulary as string);
    const golden: Record<string, string> = {
      'a photo of a cat': '320 1125 539 320 2368',
      'a headshot of a person': '320 34890 539 320 2533',
      'A Brown horse, and a blue vase.': '320 2866 4558 267 537 320 1746 20431 269',
      'a natural scene': '320 3288 3562',
      "it's 2024!": '585 568 273 271 273 275 256',
      'naïve café': '1097 35689 563 15304',
      'hello   world\n': '3306 1002',
      日本: '39121 19277 361',
      '🙂': '14860',
      'x_y-z': '343 318 344 268 345',
      '!!! ... !?': '995 678 6004',
      '': '',
      'don’t': '847 728 503 339',
      '&lt;b&gt; &amp;amp;': '261 3333 282 321 261 4725 282 261 6259 282 6259 282',
      'ﬁne ﬂ': '171 105 223 1422 171 105 480',
    };
    for (const [text, ids] of Object.entries(golden)) t.equal(full.encode(text).join(' '), ids, text);
    const files = await readTokenizerFiles(fullVocabulary as string);
    const own = new ClipTokenizer(files, openai);
    t.equal(own.encode('&lt;b&gt; &amp;amp;').join(' '), '283 321 285 261');
    for (const cleaning of [openai, hfFtfy]) {
      const cleaned = new ClipTokenizer(files, cleaning);
      t.equal(cleaned.encode('don’t').join(' '), '847 713');
      t.equal(cleaned.encode('ﬁne ﬂ').join(' '), '3797 2685');
      t.equal(cleaned.encode('ＦＵＬＬ width').join(' '), '1476 23571');
    }
    t.equal(full.bosId, 49406);
    t.equal(full.eosId, 49407);
    t.equal(full.vocabularySize, 49408);
  },
);
