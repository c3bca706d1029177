#!/bin/sh
exec kubectl delete job "$@" ${TOOD_NAMESPACE:+--namespace "$TOOD_NAMESPACE"} --ignore-not-found --wait=false
