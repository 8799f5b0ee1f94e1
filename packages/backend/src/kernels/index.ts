/** Importing this registers every native TensorFlow.js kernel. */
import './activation.js';
import './adapter.js';
import './attention.js';
import './clip-by-value.js';
import './diffusion.js';
import './identity.js';
import './loss.js';
import './mat-mul.js';
import './norm.js';
import './training.js';
