//! The pipeline file as written, and as a validated pipeline.
