/**
 * Scaled dot-product attention over H heads, channels last.
 *
 *   S = scale * Q_h K_h^T        [B, H, Lq, Lk]     (never stored by the native kernels)
 *   L = logsumexp_k(S)           [B, H, Lq]
 *   O_h = exp(S - L) V_h         [B, Lq, H*D]
 *
 * q [B, Lq, H*D]; k, v [B, Lk, H*D]; head h owns channels h*D .. (h+1)*D-1. A causal query i sees the keys
 * j <= i + Lk - Lq, so that the last query sees every key: the queries may be the tail of a longer sequence whose
 * earlier keys and values are cached.
 *
 * Backward, from the saved q, k, v, O and L (Dao, "FlashAttention-2", 2023, section 2.3):
 *   P = exp(S - L);  dV = P^T dO;  dP = dO V^T;  dS = P (dP - sum_d dO*O);  dQ = scale dS K;  dK = scale dS^T Q
 *
 * FLOPs: forward 4 B H Lq Lk D, backward 10 B H Lq Lk D (half of both when causal and Lq = Lk).
 * Bytes: each of q, k, v, O once, plus L; backward also dO, dQ, dK, dV.
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkInteger, checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel, onlyFirst, shared } from './define.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Number of heads; must divide the channels. */
  heads: number;
  /** Mask keys that lie after the query, aligned at the end. Default false. */
  causal?: boolean;
  /** Factor on the scores. Default (channels / heads)^-0.5. */
  scale?: number;
}

/** Attributes of the kernels `Attention` and `AttentionGrad`. */
export interface AttentionAttrs {
  heads: number;
  causal: boolean;
  scale: number;
}

/** Inputs of the kernel `Attention`; it returns [out [B,Lq,H*D], logsumexp [B,H,Lq]]. */
export interface AttentionInputs {
  q: tf.Tensor;
  k: tf.Tensor;
  v: tf.Tensor;
}

/** Inputs of the kernel `AttentionGrad`; it returns [dq, dk, dv]. */
export interface AttentionGradInputs extends AttentionInputs {
  out: tf.Tensor;
  logsumexp: tf.Tensor;
  dy: tf.Tensor;
}

const splitHeads = (x: tf.Tensor, heads: number): tf.Tensor => {
  const [batch = 0, length = 0, channels = 0] = x.shape;
  return tf.transpose(tf.reshape(x, [batch, length, heads, channels / heads]), [0, 2, 1, 3]);
};

const joinHeads = (x: tf.Tensor): tf.Tensor => {
  const [batch = 0, heads = 0, length = 0, depth = 0] = x.shape;
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, length, heads * depth]);
};

/** scale * Q K^T with -1e30 where a causal query may not look, [B,H,Lq,Lk]. */
function scores(q: tf.Tensor, k: tf.Tensor, { causal, scale }: AttentionAttrs): tf.Tensor {
  const s = tf.mul(tf.matMul(q, k, false, true), scale);
  if (!causal) return s;
  const lq = q.shape[2] as number;
  const lk = k.shape[2] as number;
  const mask = new Float32Array(lq * lk);
  for (let i = 0; i < lq; i++) mask.fill(-1e30, i * lk + i + lk - lq + 1, (i + 1) * lk);
  return tf.add(s, tf.tensor(mask, [1, 1, lq, lk]));
}

function composeForward(inputs: AttentionInputs, attrs: AttentionAttrs): tf.Tensor[] {
  const [batch = 0, lq = 0] = inputs.q.shape;
  if (inputs.q.size === 0) return [tf.zeros(inputs.q.shape), tf.zeros([batch, attrs.heads, lq])];
  const [q, k, v] = [inputs.q, inputs.k, inputs.v].map((x) => splitHeads(x, attrs.heads)) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const s = scores(q, k, attrs);
  const top = tf.max(s, -1, true);
  const weights = tf.exp(tf.sub(s, top));
  const total = tf.sum(weights, -1, true);
  const out = joinHeads(tf.matMul(tf.div(weights, total), v));
  return [out, tf.squeeze(tf.add(top, tf.log(total)), [3])];
}

function composeBackward(inputs: AttentionGradInputs, attrs: AttentionAttrs): tf.Tensor[] {
  if (inputs.q.size === 0) return [inputs.q, inputs.k, inputs.v].map((x) => tf.zeros(x.shape));
  const [q, k, v, out, dy] = [inputs.q, inputs.k, inputs.v, inputs.out, inputs.dy].map((x) =>
    splitHeads(x, attrs.heads),
  ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const p = tf.exp(tf.sub(scores(q, k, attrs), tf.expandDims(inputs.logsumexp, 3)));
  const dp = tf.matMul(dy, v, false, true);
  const delta = tf.sum(tf.mul(dy, out), -1, true);
  const ds = tf.mul(tf.mul(p, tf.sub(dp, delta)), attrs.scale);
  return [tf.matMul(ds, k), tf.matMul(ds, q, true, false), tf.matMul(p, dy, true, false)].map(joinHeads);
}

const runAttentionGrad = defineKernel<AttentionGradInputs, AttentionAttrs>({
  name: 'AttentionGrad',
  portable: composeBackward,
});

const runAttention = defineKernel<AttentionInputs, AttentionAttrs>({
  name: 'Attention',
  portable: composeForward,
  gradient: {
    inputsToSave: ['q', 'k', 'v'],
    outputsToSave: [true, true],
    backward([dy], saved, attrs) {
      const [q, k, v, out, logsumexp] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const grads = shared(() =>
        runAttentionGrad<[tf.Tensor, tf.Tensor, tf.Tensor]>(
          { q, k, v, out, logsumexp, dy: dy as tf.Tensor },
          attrs,
        ),
      );
      return { q: () => grads(0), k: () => grads(1), v: () => grads(2) };
    },
  },
});

/**
 * Multi-head attention: softmax(scale * q k^T) v per head.
 *
 * @param q queries [B, Lq, H*D]
 * @param k keys [B, Lk, H*D], Lk >= 1
 * @param v values [B, Lk, H*D]
 * @returns [B, Lq, H*D]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or options that do not fit
 */
export function attention(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, options: AttentionOptions): tf.Tensor3D {
  const op = 'attention';
  if (typeof options !== 'object' || options === null)
    throw typeError(op, 'options', 'an object with heads', options);
  checkKeys(op, options, ['heads', 'causal', 'scale']);
  const { heads, causal = false } = options;
  checkInteger(op, 'heads', heads, 1);
  if (typeof causal !== 'boolean') throw typeError(op, 'causal', 'a boolean', causal);
  checkTensor(op, 'q', q, [null, null, null]);
  const [batch = 0, lq = 0, channels = 0] = q.shape;
  if (channels === 0 || channels % heads !== 0)
    throw rangeError(op, 'q', `channels divisible by ${heads} heads`, q);
  checkTensor(op, 'k', k, [batch, null, channels]);
  const lk = k.shape[1] as number;
  checkTensor(op, 'v', v, [batch, lk, channels]);
  if (lk === 0) throw rangeError(op, 'k', 'at least one key', k);
  if (causal && lk < lq) throw rangeError(op, 'k', `at least ${lq} keys for ${lq} causal queries`, k);
  const { scale = (channels / heads) ** -0.5 } = options;
  checkNumber(op, 'scale', scale);
  return onlyFirst(runAttention<[tf.Tensor3D, tf.Tensor]>({ q, k, v }, { heads, causal, scale }));
}
