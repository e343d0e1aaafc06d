//! What fuzzing found, each as an ordinary test.
