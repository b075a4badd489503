//! Tables beside the paper's values.
