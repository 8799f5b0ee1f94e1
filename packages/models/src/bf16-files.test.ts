/**
 * Checkpoints saved in bf16, computed in f32. The fixtures' weights are numbers that bf16 holds, and the reference's
 * outputs were computed from just these: the bound is that of f32.
 */
import { useEngine } from '@equipoise/backend';
import { castSource, openSafetensors, StateDict, writeSafetensors } from '@equipoise/weights';
import t from 'tap';
import { FIXTURE_RUNS } from './testing/fixture-runs.js';
import { ENGINES, ModelFixture, PARITY } from './testing/model-fixture.js';

const folder = t.testdir();

for (const [name, run] of Object.entries(FIXTURE_RUNS)) {
  t.test(name, async (t) => {
    const fixture = new ModelFixture(name);
    const path = `${folder}/${name}.safetensors`;
    const sources = fixture.sources();
    await writeSafetensors(
      path,
      sources.map((source) => castSource(source, 'BF16')),
    );
    await using file = await openSafetensors(path);
    t.same(new Set([...file.tensors.values()].map(({ dtype }) => dtype)), new Set(['BF16']));
    for (const source of sources) {
      const [given, kept] = [source, file.tensors.get(source.name)!].map((tensor) =>
        castSource(tensor, 'F32'),
      );
      if (!Buffer.from(await given!.read()).equals(await kept!.read()))
        t.fail(`${source.name}: bf16 changes the weights that the reference had`);
    }
    for (const engine of ENGINES) {
      await useEngine(engine);
      const outputs = await run(fixture, new StateDict(file.tensors.values(), path));
      for (const [key, output] of Object.entries(outputs)) await fixture.check(key, output, PARITY);
      t.pass(engine);
    }
  });
}
