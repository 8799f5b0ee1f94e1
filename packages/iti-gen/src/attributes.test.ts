/** Where references come from: folders of pictures, and manifests that name them. */
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { findAttributes, imagesUnder, readAttributeManifest, readAttributes } from './index.js';
import { writeFixtureReferences } from './testing/clip-fixture.js';

t.test('folders as people have them: links, hidden files, accents, other scripts', async (t) => {
  const folder = t.testdir();
  await writeFixtureReferences(join(folder, 'data'), { Tone: { light: 2, dark: 2 } });
  const tone = join(folder, 'data', 'Tone');
  const accents = 'foncé';
  await rename(join(tone, 'light'), join(folder, 'elsewhere'));
  await symlink(join(folder, 'elsewhere'), join(tone, '明るい'));
  await rename(join(tone, 'dark'), join(tone, accents.normalize('NFD')));
  await symlink(join(folder, 'elsewhere', '000.png'), join(tone, accents.normalize('NFD'), 'a link.JPG'));
  // As macOS and notebooks leave beside the files.
  await writeFile(join(tone, accents.normalize('NFD'), '._000.png'), 'resource fork');
  await writeFile(join(tone, accents.normalize('NFD'), 'notes.txt'), 'no picture');
  await mkdir(join(folder, 'data', '.ipynb_checkpoints'));
  const found = await findAttributes(join(folder, 'data'), []);
  t.same(
    found.map(({ name, categories }) => [name, categories.map((c) => [c.name, c.files.length])]),
    [
      [
        'Tone',
        [
          [accents, 3],
          ['明るい', 2],
        ],
      ],
    ],
  );
  t.equal((await imagesUnder(folder)).length, 3 + 2, 'a folder with two names counts once');
  await symlink(folder, join(folder, 'data', 'loop'));
  t.ok((await imagesUnder(join(folder, 'data'))).length >= 5, 'a loop of links ends');
  await rm(join(folder, 'data', 'loop'));
  await writeFile(join(folder, 'elsewhere', 'scan.bmp'), 'BM');
  await t.rejects(findAttributes(join(folder, 'data'), []), {
    code: 'unsupported',
    message: /scan\.bmp: expected a picture in one of JPEG, .*, got ".bmp"/,
    hints: [/^Convert it/],
  });
  await rm(join(folder, 'elsewhere', 'scan.bmp'));
  await symlink(join(folder, 'nowhere'), join(folder, 'elsewhere', 'broken.png'));
  await t.rejects(findAttributes(join(folder, 'data'), []), {
    code: 'missing',
    message: /attribute Tone: .*broken\.png cannot be read, or is a link to nothing/,
  });
});

t.test('manifests: JSON and YAML, folders and files, and what is wrong in them', async (t) => {
  const folder = t.testdir();
  await writeFixtureReferences(join(folder, 'data'), {
    Tone: { light: 6, dark: 6 },
    Hat: { none: 6, cap: 6, bow: 6 },
  });
  const yaml = join(folder, 'data.yaml');
  const light = ['data/Tone/light'];
  const dark = ['data/Tone/dark/001.png', 'data/Tone/dark/002.png'];
  await writeFile(
    yaml,
    `attributes:\n  - name: Skin\n    categories:\n      - { name: fair, images: [${light}] }\n      - { name: deep, images: [${dark}] }\n  - name: Hat\n    categories:\n      - { name: none, images: [data/Hat/none] }\n      - { name: cap, images: [data/Hat/cap] }\n`,
  );
  const found = await readAttributeManifest(yaml);
  t.same(
    found.map(({ name, categories }) => [name, categories.map((c) => [c.name, c.files.length])]),
    [
      [
        'Skin',
        [
          ['fair', 6],
          ['deep', 2],
        ],
      ],
      [
        'Hat',
        [
          ['none', 6],
          ['cap', 6],
        ],
      ],
    ],
  );
  t.same(
    (await readAttributes(yaml, ['Hat'])).map(({ name }) => name),
    ['Hat'],
    'names choose among a manifest too',
  );
  const json = join(folder, 'data.json');
  const write = (value: unknown): Promise<void> => writeFile(json, JSON.stringify(value));
  const category = { name: 'fair', images: light };
  await write({ attributes: [{ name: 'Skin', categories: [category, { name: 'deep', images: dark }] }] });
  t.same(await readAttributes(json), [found[0]]);
  const cases: [unknown, RegExp][] = [
    [[], /data\.json: expected a mapping/],
    [{}, /attributes: expected a list, got nothing/],
    [{ attributes: [{ categories: [] }] }, /attributes\[0\]: name: expected a name/],
    [{ attributes: [{ name: 'Skin' }] }, /attributes\[0\]: categories: expected a list/],
    [
      { attributes: [{ name: 'Skin', categories: [{ name: 'fair' }] }] },
      /categories\[0\]: images: expected a list/,
    ],
    [
      { attributes: [{ name: 'Skin', categories: [{ images: light }] }] },
      /categories\[0\]: name: expected a name/,
    ],
    [
      { attributes: [{ name: 'Skin', categories: [{ ...category, images: [7] }] }] },
      /images: expected file or folder names, got 7/,
    ],
    [
      { attributes: [{ name: 'Skin', categories: [{ ...category, images: ['gone'] }] }] },
      /gone does not exist/,
    ],
    [
      {
        attributes: [
          { name: 'Skin', categories: [category] },
          { name: 'Skin', categories: [category] },
        ],
      },
      /each attribute once/,
    ],
  ];
  for (const [value, message] of cases) {
    await write(value);
    await t.rejects(readAttributeManifest(json), { message }, String(message));
  }
  await writeFile(json, '{"attributes": [');
  await t.rejects(readAttributeManifest(json), {
    code: 'corrupt',
    message: /data\.json: expected JSON or YAML/,
  });
  await t.rejects(readAttributeManifest(join(folder, 'none.yaml')), { code: 'missing' });
});
