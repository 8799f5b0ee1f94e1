import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import {
  float32Source,
  type Manifest,
  openSafetensors,
  StateDict,
  summarizeTensors,
  type TensorSource,
} from './index.js';

const fixtures = fixturesOf(import.meta.url);

function source(name: string, ...shape: number[]): TensorSource {
  return float32Source(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
}

t.test('state dicts: taking, scopes, leftovers', async (t) => {
  const dict = new StateDict([source('a.x', 2, 3), source('a.y', 4), source('b.position_ids', 1)], 'f');
  t.equal(dict.size, 3);
  const scope = dict.scope('a.');
  t.strictSame(scope.names(), ['x', 'y']);
  t.strictSame(scope.take('x', [2, 3]).shape, [2, 3]);
  t.notOk(scope.has('z'));
  t.throws(() => scope.take('y', [5]), {
    code: 'corrupt',
    message: 'f: tensor "a.y": expected shape [5], got [4]',
  });
  t.throws(() => scope.take('yy', [5]), {
    code: 'missing',
    message: 'f: tensor "a.yy": expected one of shape [5], got none; nearest: "a.y" [4]',
  });
  t.throws(() => dict.take('completely.different'), { message: /expected one, got none$/ });
  t.strictSame(dict.remaining(), ['a.y', 'b.position_ids']);
  t.throws(() => dict.assertAllConsumed(), {
    message: 'f: 2 tensors the model has no use for\n  "a.y" F32 [4]\n  "b.position_ids" F32 [1]',
  });
  scope.take('y');
  t.throws(() => dict.assertAllConsumed(), { message: /^f: one tensor the model/ });
  dict.assertAllConsumed({ ignore: [/position_ids$/] });
  t.throws(() => dict.rename(() => 'same'), { code: 'corrupt', message: /two tensors stand for "same"/ });
  t.strictSame(dict.rename((name) => (name.startsWith('a.') ? name.slice(2) : null)).names(), ['x', 'y']);
  t.strictSame(summarizeTensors(dict.sources()), { tensors: 3, elements: 11, bytes: 44, dtypes: { F32: 3 } });
});

t.test('manifests: everything that does not fit is named, with the nearest name', async (t) => {
  const dict = new StateDict(
    [source('conv.weight', 2), source('conv.bais', 3), source('norm.weight', 4)],
    'unet',
  );
  const manifest: Manifest = {
    'conv.weight': [2],
    'conv.bias': [3],
    'norm.weight': [5],
    'far.away.tensor': [1],
  };
  t.throws(() => dict.require(manifest), {
    code: 'corrupt',
    message: [
      'unet: the tensors do not fit the model: 2 missing, 1 unexpected, 1 of another shape',
      '  missing "conv.bias" [3]; nearest: "conv.bais"',
      '  missing "far.away.tensor" [1]',
      '  unexpected "conv.bais" [3]; nearest: "conv.bias"',
      '  "norm.weight": expected shape [5], got [4]',
    ].join('\n'),
  });
  dict.require(
    new Map([
      ['conv.weight', [2]],
      ['norm.weight', [4]],
    ]),
    { ignore: [/bais/] },
  );
  // A wholly different model of real size is refused quickly, and the message stays short.
  const keys = (prefix: string): TensorSource[] =>
    Array.from({ length: 1680 }, (_, i) =>
      source(`${prefix}.blocks.${i}.attentions.${i % 7}.to_q.weight`, 1),
    );
  const other = Object.fromEntries(keys('up').map(({ name, shape }) => [name, shape]));
  t.throws(() => new StateDict(keys('down'), 'x').require(other), {
    message: /1680 missing, 1680 unexpected.*… and 1670 more/s,
  });
});

t.test('files are closed with their dict', async (t) => {
  const file = await openSafetensors(fixtures.path('pipeline/vae/diffusion_pytorch_model.safetensors'));
  const dict = new StateDict(file.tensors, file.path, [file]).rename((name) => `x.${name}`);
  const tensor = dict.take('x.decoder.conv_in.bias');
  t.equal((await tensor.read()).byteLength, 16);
  await dict.close();
  await t.rejects(tensor.read(), { message: /read after close/ });
});
