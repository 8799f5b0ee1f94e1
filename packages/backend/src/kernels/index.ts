/** Importing this registers every native TensorFlow.js kernel. */
import './activation.js';
import './attention.js';
import './clip-by-value.js';
import './identity.js';
import './norm.js';
