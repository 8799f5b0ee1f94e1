import { cp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fixturesOf, requireClose } from '@equipoise/testing';
import t from 'tap';
import { matchPattern, parseAdapterConfig } from './adapter-config.js';
import { AdapterKeyReader, moduleOfKohya } from './adapter-keys.js';
import {
  type AdapterFile,
  type AdapterModule,
  float32Source,
  openAdapter,
  readFloat32,
  saveDiffusersAdapter,
  savePeftAdapter,
  type TensorSource,
  writeSafetensors,
} from './index.js';

const fixtures = fixturesOf(import.meta.url);
const path = (name: string): string => fixtures.path(`adapters/${name}`);

interface Loaded {
  readonly down: Float32Array;
  readonly up: Float32Array;
  readonly magnitude: Float32Array | undefined;
  readonly rank: number;
  readonly scaling: number;
}

async function load(file: AdapterFile, component = 'unet'): Promise<Map<string, Loaded>> {
  const result = new Map<string, Loaded>();
  for (const [name, entry] of file.modules(component)) {
    const { down, up, magnitude, rank, scaling } = entry;
    result.set(name, {
      down: await readFloat32(down),
      up: await readFloat32(up),
      magnitude: magnitude === undefined ? undefined : await readFloat32(magnitude),
      rank,
      scaling,
    });
  }
  return result;
}

async function loadPath(name: string): Promise<Map<string, Loaded>> {
  await using file = await openAdapter(path(name));
  return await load(file);
}

const byName = (modules: Map<string, Loaded>): [string, Loaded][] =>
  [...modules].sort(([a], [b]) => (a < b ? -1 : 1));

t.test('all spellings of one DoRA adapter give the same layers', async (t) => {
  const spellings = [
    ['dora-diffusers', 'diffusers', 1],
    ['dora-diffusers-described', 'diffusers', 2],
    ['dora-adapter', 'bare', 2],
    ['dora-peft', 'peft', 2],
    ['dora-kohya.safetensors', 'kohya', 2],
  ] as const;
  const reference = await loadPath('dora-peft');
  t.equal(reference.size, 32);
  t.ok(reference.has('up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_out.0'));
  for (const [name, spelling, scaling] of spellings) {
    await using file = await openAdapter(path(name));
    t.equal(file.spelling, spelling, name);
    t.ok(file.usesDora);
    t.strictSame([...file.components.keys()], ['unet']);
    // Without config or alpha tensor, alpha is the rank: that is what diffusers assumes as well.
    const expected = byName(reference).map(([module, entry]) => [module, { ...entry, scaling }]);
    t.strictSame(byName(await load(file)), expected, name);
  }
  const plain = byName(reference).map(([module, entry]) => [
    module,
    { ...entry, magnitude: undefined, scaling: 1 },
  ]);
  await using old = await openAdapter(path('lora-processors.safetensors'));
  t.equal(old.spelling, 'processor');
  t.notOk(old.usesDora);
  t.strictSame(byName(await load(old)), plain);
});

t.test('an adapter of UNet and text encoder', async (t) => {
  await using file = await openAdapter(path('lora-unet-text'));
  t.strictSame([...file.components.keys()].sort(), ['text_encoder', 'unet']);
  const text = file.modules('text_encoder');
  t.strictSame(
    [...text.keys()].sort(),
    ['q_proj', 'v_proj'].map((name) => `text_model.encoder.layers.0.self_attn.${name}`),
  );
  t.equal(file.modules('unet').size, 32);
  t.equal(file.modules('transformer').size, 0);
});

t.test("ranks, alphas and rank-stabilised scales per layer equal PEFT's", async (t) => {
  await using file = await openAdapter(path('lora-peft-patterns'));
  const scalings = fixtures.json<Record<string, number>>('adapters/lora-peft-patterns.scaling.json');
  const modules = file.modules('unet');
  t.strictSame([...modules.keys()].sort(), Object.keys(scalings).sort());
  const names = Object.keys(scalings);
  const mine = names.map((name) => modules.get(name)?.scaling as number);
  requireClose(
    'scaling',
    mine,
    names.map((name) => scalings[name] as number),
    { relative: 1e-12 },
  );
  t.strictSame([...new Set([...modules.values()].map((entry) => entry.rank))].sort(), [1, 2, 3]);
  t.match(file.configs.get('unet'), { r: 2, loraAlpha: 4, useRslora: true, rankPattern: { to_v: 1 } });
});

t.test('what is saved equals what diffusers saves, byte for byte', async (t) => {
  for (const name of ['dora-diffusers', 'lora-unet-text']) {
    await using file = await openAdapter(path(name));
    const out = await saveDiffusersAdapter(t.testdir(), file.components);
    t.ok(
      (await readFile(out)).equals(fixtures.bytes(`adapters/${name}/pytorch_lora_weights.safetensors`)),
      name,
    );
  }
  await using file = await openAdapter(path('dora-peft'));
  const folder = await savePeftAdapter(t.testdir(), file.modules('unet'));
  const expected = fixtures.bytes('adapters/dora-peft/adapter_model.safetensors');
  t.ok((await readFile(join(folder, 'adapter_model.safetensors'))).equals(expected));
});

t.test('saving and opening again keeps tensors, ranks and scales', async (t) => {
  for (const name of ['dora-peft', 'lora-peft-patterns', 'dora-kohya.safetensors', 'dora-diffusers']) {
    const folder = t.testdir();
    await using file = await openAdapter(path(name));
    const before = byName(await load(file));
    await savePeftAdapter(join(folder, 'peft'), file.modules('unet'), { baseModel: 'x/y' });
    await saveDiffusersAdapter(join(folder, 'diffusers'), file.components);
    for (const form of ['peft', 'diffusers']) {
      await using again = await openAdapter(join(folder, form));
      t.equal(again.spelling, form);
      const after = byName(await load(again));
      const unscaled = (list: [string, Loaded][]): unknown[] =>
        list.map(([module, entry]) => [module, { ...entry, scaling: 0 }]);
      t.strictSame(unscaled(after), unscaled(before));
      const scales = (list: [string, Loaded][]): number[] => list.map(([, entry]) => entry.scaling);
      requireClose(`${name} ${form}`, scales(after), scales(before), { relative: 1e-12 });
    }
    const config = await readFile(join(folder, 'peft/adapter_config.json'), 'utf8');
    t.match(config, '"base_model_name_or_path": "x/y"');
    t.match(config, '"lora_dropout": 0.0');
    t.notMatch(config, /\n$/);
  }
  await t.rejects(savePeftAdapter(t.testdir(), new Map()), { message: /at least one adapted layer/ });
  const linear = (dora: boolean): AdapterModule => ({
    module: 'm',
    down: source('d', 1, 2),
    up: source('u', 3, 1),
    ...(dora ? { magnitude: source('m', 3) } : {}),
    rank: 1,
    alpha: 1,
    scaling: 1,
  });
  const mixed = new Map([
    ['a', linear(true)],
    ['b', linear(false)],
  ]);
  await t.rejects(savePeftAdapter(t.testdir(), mixed), { message: /a magnitude on every layer or on none/ });
});

function source(name: string, ...shape: number[]): TensorSource {
  return float32Source(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(2));
}

t.test('keys of every spelling', async (t) => {
  const reader = new AdapterKeyReader({ component: 'unet', modules: { unet: ['a.b_c.to_q'] } });
  const cases: [string, string, string, string, string][] = [
    ['unet.a.to_q.lora.down.weight', 'unet', 'a.to_q', 'down', 'diffusers'],
    ['unet.a.to_q.lora_A.weight', 'unet', 'a.to_q', 'down', 'diffusers'],
    ['a.to_out.0.lora_B.weight', 'unet', 'a.to_out.0', 'up', 'bare'],
    ['base_model.model.a.lora_magnitude_vector', 'unet', 'a', 'magnitude', 'peft'],
    ['base_model.model.unet.a.lora_A.weight', 'unet', 'a', 'down', 'peft'],
    ['a.lora_magnitude_vector.weight', 'unet', 'a', 'magnitude', 'bare'],
    ['text_model.x.q_proj.lora_A.weight', 'text_encoder', 'text_model.x.q_proj', 'down', 'bare'],
    ['unet.x.attn1.processor.to_out_lora.up.weight', 'unet', 'x.attn1.to_out.0', 'up', 'processor'],
    [
      'text_encoder.l.self_attn.to_out_lora.down.weight',
      'text_encoder',
      'l.self_attn.out_proj',
      'down',
      'processor',
    ],
    ['lora_unet_a_b_c_to_q.lora_up.weight', 'unet', 'a.b_c.to_q', 'up', 'kohya'],
    [
      'lora_te2_text_model_encoder_layers_3_mlp_fc1.alpha',
      'text_encoder_2',
      'text_model.encoder.layers.3.mlp.fc1',
      'alpha',
      'kohya',
    ],
    [
      'lora_te_text_model_encoder_layers_3_self_attn_k_proj.dora_scale',
      'text_encoder',
      'text_model.encoder.layers.3.self_attn.k_proj',
      'magnitude',
      'kohya',
    ],
  ];
  for (const [key, component, module, part, spelling] of cases) {
    t.strictSame(reader.parse(key), { component, module, part, spelling }, key);
  }
  for (const key of ['a.weight', '.alpha', 'lora_A.weight', 'a.lora_C.weight', ''])
    t.equal(reader.parse(key), null, key);
});

t.test("kohya's flattened names, of both UNets", async (t) => {
  const cases: [string, string][] = [
    [
      'down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0',
      'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0',
    ],
    [
      'mid_block_attentions_0_transformer_blocks_9_ff_net_0_proj',
      'mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj',
    ],
    ['up_blocks_1_resnets_2_time_emb_proj', 'up_blocks.1.resnets.2.time_emb_proj'],
    ['time_embedding_linear_2', 'time_embedding.linear_2'],
    [
      'input_blocks_4_1_transformer_blocks_1_attn2_to_k',
      'down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k',
    ],
    ['input_blocks_8_0_in_layers_2', 'down_blocks.2.resnets.1.conv1'],
    ['input_blocks_3_0_op', 'down_blocks.0.downsamplers.0.conv'],
    ['middle_block_1_proj_in', 'mid_block.attentions.0.proj_in'],
    ['middle_block_2_out_layers_3', 'mid_block.resnets.1.conv2'],
    [
      'output_blocks_5_1_transformer_blocks_0_ff_net_2',
      'up_blocks.1.attentions.2.transformer_blocks.0.ff.net.2',
    ],
    ['output_blocks_2_2_conv', 'up_blocks.0.upsamplers.0.conv'],
    ['output_blocks_0_0_skip_connection', 'up_blocks.0.resnets.0.conv_shortcut'],
    ['label_emb_0_2', 'add_embedding.linear_2'],
    ['input_blocks_0_0', 'conv_in'],
  ];
  for (const [flat, module] of cases) t.equal(moduleOfKohya(flat), module);
});

t.test('every layer of real models survives flattening', async (t) => {
  // All linear and convolution layers of the UNet fixture: to kohya's form and back.
  const shapes = fixtures.json<Record<string, Record<string, number[]>>>('pipeline/shapes.json');
  const layers = Object.entries({ ...shapes['unet'], ...shapes['text_encoder'] })
    .filter(
      ([name, shape]) => name.endsWith('.weight') && shape.length > 1 && !name.includes('_embedding.weight'),
    )
    .map(([name]) => name.slice(0, -'.weight'.length));
  t.ok(layers.length > 80);
  for (const layer of layers) t.equal(moduleOfKohya(layer.replaceAll('.', '_')), layer);
});

t.test('configs: patterns and refusals', async (t) => {
  const pattern = { 'attn2.to_q': 1, '^mid.to_q': 2, '(.*\\.)?to_v$': 3, 'a\\.b': 4 };
  t.equal(matchPattern(pattern, 'x.attn2.to_q', 'f'), 1);
  t.equal(matchPattern(pattern, 'xattn2.to_q', 'f'), undefined);
  t.equal(matchPattern(pattern, 'mid.to_q', 'f'), 2);
  t.equal(matchPattern(pattern, 'x.mid.to_q', 'f'), undefined);
  t.equal(matchPattern(pattern, 'q.to_v', 'f'), 3);
  t.equal(matchPattern(pattern, 'a.b', 'f'), 4);
  t.throws(() => matchPattern({ '(a+)+$': 1 }, 'aaaa', 'f'), {
    code: 'unsupported',
    message: /"\(a\+\)\+\$": expected a module name/,
  });
  const refusals: [Record<string, unknown>, RegExp][] = [
    [{ peft_type: 'LOHA' }, /f: peft_type: expected "LORA", got "LOHA"/],
    [{ bias: 'all' }, /f: bias: expected "none", got "all"/],
    [{ fan_in_fan_out: true }, /f: fan_in_fan_out: expected false, got true/],
    [{ r: 0 }, /f: r: expected a number above 0, got 0/],
    [{ lora_alpha: '4' }, /f: lora_alpha: expected a number above 0, got "4"/],
    [{ use_dora: 1 }, /f: use_dora: expected true or false, got 1/],
    [{ rank_pattern: [] }, /f: rank_pattern: expected an object, got \[\]/],
    [{ alpha_pattern: { a: -1 } }, /f: alpha_pattern: "a": expected a number above 0, got -1/],
  ];
  for (const [fields, message] of refusals) t.throws(() => parseAdapterConfig(fields, 'f'), { message });
  t.strictSame(parseAdapterConfig({ future_field: [1] }, 'f').useDora, false);
});

t.test('broken and foreign adapter files are refused by name', async (t) => {
  const folder = t.testdir({
    empty: {},
    pickled: { 'adapter_model.bin': '' },
    two: { 'a.safetensors': '', 'b.safetensors': '' },
  });
  const open = async (...sources: TensorSource[]): Promise<AdapterFile> => {
    const file = join(folder, 'x.safetensors');
    await writeSafetensors(file, sources);
    return openAdapter(file);
  };
  const down = source('unet.m.lora.down.weight', 2, 4);
  const up = source('unet.m.lora.up.weight', 3, 2);
  const magnitude = (...shape: number[]): TensorSource => source('unet.m.lora_magnitude_vector', ...shape);
  const alpha = (...shape: number[]): TensorSource => source('unet.m.alpha', ...shape);
  await (await open(down, up, magnitude(3), alpha())).close();
  await t.rejects(open(), { code: 'corrupt', message: /expected LoRA tensors, got none/ });
  await t.rejects(open(down), {
    message: /m: expected both LoRA matrices, got only "unet\.m\.lora\.down\.weight"/,
  });
  await t.rejects(open(down, source('unet.m.lora.up.weight', 3, 1)), {
    message: /\[rank, in\] and \[out, rank\], got \[2, 4\] and \[3, 1\]/,
  });
  await t.rejects(open(source('unet.m.lora.down.weight', 2), up), { message: /expected matrices of shapes/ });
  await t.rejects(open(down, up, magnitude(4)), {
    code: 'corrupt',
    message: /magnitude: expected one number for each of 3 output/,
  });
  await t.rejects(open(down, up, magnitude(1, 3)), {
    code: 'unsupported',
    message: /magnitude/,
    hints: [/wd_on_out/],
  });
  await t.rejects(open(down, up, alpha(2)), { message: /alpha: expected one finite number/ });
  await t.rejects(open(down, up, source('unet.m.lora_A.weight', 2, 4)), {
    message: /stand for the same tensor/,
  });
  await t.rejects(open(down, up, source('unet.m.bias', 3)), {
    message: /"unet\.m\.bias": expected the name of a LoRA or DoRA tensor/,
  });
  await t.rejects(open(source('lora_unet_m.hada_w1_a', 2)), {
    code: 'unsupported',
    message: /expected LoRA or DoRA, got LoHa/,
  });
  await t.rejects(open(source('lora_unet_m.lokr_w1', 2)), { code: 'unsupported', message: /got LoKr/ });
  await t.rejects(openAdapter(join(folder, 'empty')), {
    code: 'missing',
    message: /expected adapter_model\.safetensors or pytorch_lora/,
  });
  await t.rejects(openAdapter(join(folder, 'pickled')), { code: 'unsafe', message: /pickle/ });
  await t.rejects(openAdapter(join(folder, 'two')), {
    code: 'missing',
    message: /got a\.safetensors, b\.safetensors/,
  });
  const peft = join(folder, 'peft');
  await cp(path('dora-peft'), peft, { recursive: true });
  await rm(join(peft, 'adapter_config.json'));
  await t.rejects(openAdapter(peft), { code: 'missing', message: /adapter_config\.json: no such file/ });
});
