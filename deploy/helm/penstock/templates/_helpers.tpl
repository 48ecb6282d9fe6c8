{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "penstock.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "penstock.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "penstock.controller.fullname" -}}
{{- printf "%s-%s" (include "penstock.fullname" .) .Values.controller.name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.defaultBackend.fullname" -}}
{{- printf "%s-%s" (include "penstock.fullname" .) .Values.defaultBackend.name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.admission.fullname" -}}
{{- printf "%s-%s" (include "penstock.controller.fullname" .) .Values.controller.admissionWebhooks.name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The ValidatingWebhookConfiguration, of which all namespaces see the name. */}}
{{- define "penstock.admission.configuration" -}}
{{- printf "%s-%s" (include "penstock.namespace" .) (include "penstock.admission.fullname" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Whether the gateways make the certificate of the webhook: "true" or nothing. */}}
{{- define "penstock.admission.ownCertificate" -}}
{{- $webhooks := .Values.controller.admissionWebhooks }}
{{- if and $webhooks.enabled (not $webhooks.certManager.enabled) (not $webhooks.secretName) }}true{{ end }}
{{- end }}

{{/* Whether its certificate is mounted: "true" or nothing. */}}
{{- define "penstock.admission.mounted" -}}
{{- if and .Values.controller.admissionWebhooks.enabled (not (include "penstock.admission.ownCertificate" .)) }}true{{ end }}
{{- end }}

{{/* The Secret with the certificate of the webhook. */}}
{{- define "penstock.admission.secretName" -}}
{{- default (include "penstock.admission.fullname" .) .Values.controller.admissionWebhooks.secretName }}
{{- end }}

{{- define "penstock.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "penstock.electionID" -}}
{{- default (printf "%s-leader" (include "penstock.fullname" .)) .Values.controller.electionID }}
{{- end }}

{{/* The namespace that is served; empty for all. */}}
{{- define "penstock.scope" -}}
{{- if and .Values.controller.scope.enabled (not .Values.controller.scope.namespaceSelector) }}
{{- default (include "penstock.namespace" .) .Values.controller.scope.namespace }}
{{- end }}
{{- end }}

{{/* The Service whose addresses the statuses show. */}}
{{- define "penstock.publishService" -}}
{{- $service := .Values.controller.service }}
{{- if .Values.controller.publishService.enabled }}
{{- if .Values.controller.publishService.pathOverride }}
{{- .Values.controller.publishService.pathOverride }}
{{- else if and $service.enabled $service.external.enabled }}
{{- printf "%s/%s" (include "penstock.namespace" .) (include "penstock.controller.fullname" .) }}
{{- else if and $service.enabled $service.internal.enabled }}
{{- printf "%s/%s-internal" (include "penstock.namespace" .) (include "penstock.controller.fullname" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels that select the pods of a component: (list $ "controller"). */}}
{{- define "penstock.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "penstock.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object of a component: (list $ "controller"). */}}
{{- define "penstock.labels" -}}
{{- $root := index . 0 -}}
{{ include "penstock.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "penstock.name" $root }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of an object: (dict "root" $ "component" "controller" "name" .. "labels" .. "annotations" ..). */}}
{{- define "penstock.metadata" -}}
name: {{ .name }}
{{- if not .isGlobal }}
namespace: {{ default (include "penstock.namespace" .root) .namespace }}
{{- end }}
labels:
  {{- include "penstock.labels" (list .root .component) | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "penstock.image" -}}
{{- $image := index . 1 -}}
{{- if and (eq $image.image "ingress-nginx/controller") (hasPrefix "v1." $image.tag) }}
{{- fail "controller.image names an image of ingress-nginx: take image, tag and digest out of the values" }}
{{- end }}
{{- if $image.repository }}{{ $image.repository }}{{ else }}{{ with $image.registry }}{{ . }}/{{ end }}{{ $image.image }}{{ end }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}
