"""The configuration that `edgelut ci init` writes; docs/examples/edgelut-ci.yaml is the same file."""

from __future__ import annotations

EXAMPLE = """\
# What `edgelut ci` measures in each build, and how much slower is too much. All fields: docs/ci.md.

name: my-blocks                      # of the series of builds: each is compared with earlier ones of this name
# url: https://edgelut.example.com   # the service; without this line $EDGELUT_URL. The token is in $EDGELUT_TOKEN, never here

job:                                 # what is measured, and where
  presets: [efficientformer-l1]      # or blocks with widths and resolutions, or specs: ["MB4D:48@56"]
  # blocks: [MB4D, MB3D]
  # widths: ["208..240:16"]
  # resolutions: [14]
  devices: [host]                    # names in the service's fleet: 'edgelut fleet' lists them
  # selector: {device_model: "Pixel 8"}   # or every device whose facts say so
  runtimes: [onnxruntime-cpu]
  precisions: [fp32]
  threads: [1]

baseline:                            # compared with: previous, or one of branch, mark and job
  branch: main                       # the newest build of that branch

reference: efficientformer-l1        # a whole network beside the blocks: it shows what slowed down all of them alike

tolerance: 0.05                      # a row may be 5 % slower; or:
# tolerance:
#   default: 0.05
#   kinds: {MB3D: 0.08}
#   blocks: {"MB4D:48@56": 0.03}
fdr: 0.05                            # of the rows called slower, at most this share may be wrong
confirm: true                        # measure suspects again, in another session, before a build fails

record:
  on-branch: main                    # builds of this branch also fill the table

timeout: 1h                          # for all jobs of a build together; then it could not be told
"""
