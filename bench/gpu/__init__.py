"""What a GPU gives the engines and the batcher: ``bench/gpu/run.sh``; docs/performance.md."""
