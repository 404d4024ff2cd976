"""Names of the figures and their captions; imports nothing, since the Snakefile reads it."""

FIGURES = {
    "curves": "Loss against post-training tokens, measured and fitted, run by run",
    "predicted": "Predicted against measured loss, with a band of 1 %",
    "tokens": "Post-training tokens worth buying, against pruning rate and size",
}
