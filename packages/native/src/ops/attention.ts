import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/attention. */
export interface AttentionOps {
  /** q [B,Lq,H*D], k and v [B,Lk,H*D] -> [out like q, logsumexp [B,H,Lq]] */
  attention(q: Handle, k: Handle, v: Handle, heads: number, causal: boolean, scale: number): [Handle, Handle];
  /** Everything the forward pass saved, and dy like q -> [dq, dk, dv] */
  attentionGrad(
    q: Handle,
    k: Handle,
    v: Handle,
    out: Handle,
    logsumexp: Handle,
    dy: Handle,
    heads: number,
    causal: boolean,
    scale: number,
  ): [Handle, Handle, Handle];
}
