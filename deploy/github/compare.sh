#!/usr/bin/env bash
# Runs the comparison. In: PERFPROF, BEFORE, AFTER, SERVICE, RUNS, FREQUENCY, TOLERANCE, ARTIFACTS. Out: `status` and
# `verdict` for the steps behind it, and the comparison in the job's summary. Ends well: `judge.sh` decides about the check.
set -u

# Whatever lies there is of an older comparison.
rm -f "$ARTIFACTS/performance-comparison.json" "$ARTIFACTS/comparison.md"
"$PERFPROF" ci run --before "$BEFORE" --after "$AFTER" --runs "$RUNS" -F "$FREQUENCY" \
  --service "$SERVICE" --tolerance "$TOLERANCE" --artifacts "$ARTIFACTS"
status=$?
verdict=
if [ -f "$ARTIFACTS/performance-comparison.json" ]; then
  verdict=$(jq -r .verdict "$ARTIFACTS/performance-comparison.json")
  # The pictures are in the uploaded artifacts; a summary cannot show them.
  grep -v '^\[!\[' "$ARTIFACTS/comparison.md" >> "$GITHUB_STEP_SUMMARY"
fi
{
  echo "status=$status"
  echo "verdict=$verdict"
} >> "$GITHUB_OUTPUT"
