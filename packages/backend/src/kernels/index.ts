/** Importing this registers every native TensorFlow.js kernel. */
import './clip-by-value.js';
import './identity.js';
