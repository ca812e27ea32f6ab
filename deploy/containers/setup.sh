#!/bin/sh
# What a Prefect server must know, told once and again without harm: the pool, the deployments, the automation.
set -eu
prefect work-pool inspect atlas >/dev/null 2>&1 || prefect --no-prompt work-pool create atlas --type process
prefect --no-prompt deploy --all --prefect-file deploy/prefect.yaml
prefect automation inspect "a run without a sign of life is crashed" >/dev/null 2>&1 ||
  prefect automation create --from-file deploy/automations.yaml
