import t from 'tap';
import { selectModelFiles } from './index.js';

t.test('only the files a model needs are chosen', async (t) => {
  const files = [
    'README.md',
    'model_index.json',
    'v1-5-pruned.safetensors',
    'v1-5-pruned.ckpt',
    'unet/config.json',
    'unet/diffusion_pytorch_model.safetensors',
    'unet/diffusion_pytorch_model.fp16.safetensors',
    'unet/diffusion_pytorch_model.bin',
    'unet/diffusion_flax_model.msgpack',
    'vae/config.json',
    'vae/diffusion_pytorch_model.safetensors',
    'tokenizer/vocab.json',
    'tokenizer/merges.txt',
    'tokenizer/tokenizer_config.json',
    'scheduler/scheduler_config.json',
    'images/a.png',
    'images/list.json',
    'logs/unet/config.json',
    'text_encoder/config.json',
    'text_encoder/model-00001-of-00002.safetensors',
    'text_encoder/model-00002-of-00002.safetensors',
    'text_encoder/model.safetensors.index.json',
    'text_encoder/model.fp16-00001-of-00001.safetensors',
    'text_encoder/model.safetensors.index.fp16.json',
  ];
  const common = [
    'model_index.json',
    'scheduler/scheduler_config.json',
    'text_encoder/config.json',
    'tokenizer/merges.txt',
  ];
  const rest = [
    'tokenizer/tokenizer_config.json',
    'tokenizer/vocab.json',
    'unet/config.json',
    'vae/config.json',
  ];
  const plain = [
    'text_encoder/model-00001-of-00002.safetensors',
    'text_encoder/model-00002-of-00002.safetensors',
    'text_encoder/model.safetensors.index.json',
  ];
  const vae = 'vae/diffusion_pytorch_model.safetensors';
  t.strictSame(
    selectModelFiles(files).sort(),
    [...common, ...rest, ...plain, vae, 'unet/diffusion_pytorch_model.safetensors'].sort(),
  );
  const half = [
    'text_encoder/model.fp16-00001-of-00001.safetensors',
    'text_encoder/model.safetensors.index.fp16.json',
  ];
  t.strictSame(
    selectModelFiles(files, { variant: 'fp16' }).sort(),
    [...common, ...rest, ...half, vae, 'unet/diffusion_pytorch_model.fp16.safetensors'].sort(),
  );
  t.strictSame(
    selectModelFiles(files, { components: ['vae'] }).sort(),
    ['model_index.json', vae, 'vae/config.json'].sort(),
  );
  const adapter = ['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'adapter_model.bin'];
  t.strictSame(selectModelFiles(adapter), ['adapter_config.json', 'adapter_model.safetensors']);
});
