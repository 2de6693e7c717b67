#!/usr/bin/env bash
# Puts comparison.md on the pull request, in place of the last one of the same service. In: GH_TOKEN, SERVICE, ARTIFACTS,
# ARTIFACT_URL, PULL_REQUEST, GITHUB_REPOSITORY. A token that may not write (a fork's) is a warning: the verdict counts.
set -u

marker="<!-- perfprof: ${SERVICE//[^A-Za-z0-9._-]/-} -->"
body=$(mktemp)
{
  echo "$marker"
  # The pictures are in the uploaded artifacts; GitHub shows no relative links in comments.
  grep -v '^\[!\[' "$ARTIFACTS/comparison.md"
  if [ -n "${ARTIFACT_URL:-}" ]; then
    printf '\n[Differential flame graphs, profiles and JSON](%s)\n' "$ARTIFACT_URL"
  fi
} > "$body"

comments="repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments"
old=$(MARKER="$marker" gh api --paginate "$comments" \
  --jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.MARKER))) | .id' | head -n 1)
if [ -n "$old" ]; then
  gh api --silent -X PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$old" -F "body=@$body"
else
  gh api --silent -X POST "$comments" -F "body=@$body"
fi || echo "::warning title=perfprof::The token may not comment on this pull request; the comparison is in the job's summary"
