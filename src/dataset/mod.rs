//! Datasets: ordered manifests of samples, and the readers behind them.
