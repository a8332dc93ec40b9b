"""Networks: pure `nn.Module`s, one file a paper, options beside it. No input or output of files, no training."""
