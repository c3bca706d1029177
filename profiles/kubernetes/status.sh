#!/bin/sh
# Says how a Job stands: running, success or failed. A question that gets no answer is asked again later.
said=$(kubectl get job "$1" ${TOOD_NAMESPACE:+--namespace "$TOOD_NAMESPACE"} --ignore-not-found \
    --output 'jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type}') || said="$1 unknown"
case "$said" in
    *Complete*) echo success ;;
    *Failed*) echo failed ;;
    "$1"*) echo running ;;
    *) echo failed ;; # somebody deleted it
esac
