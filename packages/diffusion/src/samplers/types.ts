/**
 * The form every sampler's step takes here.
 *
 * A step is affine in the latents x, the model's outputs m and the noise z:
 *
 *     x' = cx x + ce (w_0 m_0 + w_1 m_1 + ...) + cn z  [ + clip term ]
 *
 * with m_0 the newest output. That is what one fused kernel can run in a single pass over the
 * latents, and it keeps samplers free of tensors: they only make numbers.
 */

export interface SamplerStep {
  /** What the model is told; not always whole (Euler with linspace spacing). */
  readonly timestep: number;
  /** The model sees x * inputScale. */
  readonly inputScale: number;
  readonly cx: number;
  readonly ce: number;
  /** 0 when no noise is drawn; see {@link drawsNoise}. */
  readonly cn: number;
  /** True when a noise sample is drawn, which advances a sequential generator even if cn is tiny. */
  readonly drawsNoise: boolean;
  /** Weights of the model's outputs, newest first; [1] for one-step methods. */
  readonly weights: readonly number[];
  /** Which latents are x: the current ones, or those held by an earlier step. */
  readonly source: 'current' | 'held';
  /** Hold the latents that came into this step. */
  readonly hold: boolean;
  /** Keep this step's model output for later steps. */
  readonly remember: boolean;
  /** d(eps)/d(m), by what is predicted: 1 for eps, sqrt(alpha) for v, -sqrt(alpha / (1 - alpha)) for x0. */
  readonly epsilonScale: number;
  /** Adds weight * clamp(x * cx + m * ce, -range, range): the predicted image, clipped. */
  readonly clip?: {
    readonly cx: number;
    readonly ce: number;
    readonly weight: number;
    readonly range: number;
  };
}

/** A sampler made for a schedule and a number of steps. Immutable; may be shared. */
export interface Sampler {
  readonly name: string;
  /** One entry per model call, in order. */
  readonly timesteps: readonly number[];
  /** Initial latents are unit normal noise times this. */
  readonly initNoiseSigma: number;
  /** Model outputs that must be kept, at most. */
  readonly historyLength: number;
  /**
   * The numbers of one step.
   * @param index position in {@link timesteps}
   */
  coefficients(index: number): SamplerStep;
}

/** How the model's output m gives the predicted image and noise, each affine in x and m. */
export interface Prediction {
  /** x0 = x0.x * x + x0.m * m */
  readonly x0: { readonly x: number; readonly m: number };
  /** eps = eps.x * x + eps.m * m */
  readonly eps: { readonly x: number; readonly m: number };
}
