/** Importing this registers every native TensorFlow.js kernel. */
import './attention.js';
import './clip-by-value.js';
import './identity.js';
