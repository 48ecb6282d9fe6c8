{{/* The pods of the controller, which are the same in a Deployment and in a DaemonSet. */}}
{{- define "penstock.pod" -}}
{{- $controller := .Values.controller -}}
metadata:
  labels:
    {{- include "penstock.selectorLabels" (list . "controller") | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $controller.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $controller.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "penstock.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  terminationGracePeriodSeconds: {{ $controller.terminationGracePeriodSeconds }}
  {{- if and $controller.hostNetwork (eq $controller.dnsPolicy "ClusterFirst") }}
  # Names of Services are not resolved in the network of the host without this.
  dnsPolicy: ClusterFirstWithHostNet
  {{- else }}
  dnsPolicy: {{ $controller.dnsPolicy }}
  {{- end }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- if $controller.shareProcessNamespace }}
  shareProcessNamespace: true
  {{- end }}
  {{- with $controller.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $controller.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if or $controller.podSecurityContext $controller.sysctls }}
  securityContext:
    {{- with $controller.podSecurityContext }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $controller.sysctls }}
    sysctls:
      {{- range $name, $value := . }}
      - name: {{ $name | quote }}
        value: {{ $value | quote }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with $controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $selector := dict "matchLabels" (include "penstock.selectorLabels" (list $ "controller") | fromYaml) }}
    - {{ toYaml (merge (dict) . (dict "labelSelector" $selector)) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- if or $controller.handover.enabled $controller.extraInitContainers }}
  initContainers:
    {{- if $controller.handover.enabled }}
    - {{ include "penstock.handover.preparation" . | nindent 6 | trim }}
    {{- end }}
    {{- with $controller.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "penstock.container" . | nindent 6 | trim }}
    {{- with $controller.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $mountsAdmission := include "penstock.admission.mounted" . }}
  {{- if or $controller.handover.enabled $mountsAdmission $controller.extraVolumes }}
  volumes:
    {{- if $mountsAdmission }}
    - name: admission
      secret:
        secretName: {{ include "penstock.admission.secretName" . }}
    {{- end }}
    {{- if $controller.handover.enabled }}
    - name: handover
      hostPath:
        path: {{ $controller.handover.hostPath }}/{{ include "penstock.namespace" . }}-{{ include "penstock.controller.fullname" . }}
        type: DirectoryOrCreate
    {{- end }}
    {{- with $controller.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}

{{- define "penstock.container" -}}
{{- $controller := .Values.controller -}}
name: {{ $controller.containerName }}
image: {{ include "penstock.image" (list . $controller.image) }}
imagePullPolicy: {{ $controller.image.pullPolicy }}
args:
  {{- include "penstock.args" . | nindent 2 }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- with $controller.extraEnvs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- if $controller.containerSecurityContext }}
  {{- toYaml $controller.containerSecurityContext | nindent 2 }}
  {{- else }}
  {{- include "penstock.securityContext" $controller.image | nindent 2 }}
  capabilities:
    drop:
      - ALL
    # Ports below 1024
    add:
      - NET_BIND_SERVICE
  {{- end }}
{{- if $controller.handover.enabled }}
# No ports: on the host's network they are the host's, and a second pod would find them taken. Over HTTP, the pod that has
# the sockets would answer for the other one.
livenessProbe:
  {{- toYaml $controller.livenessProbe | replace (printf "port: %s" $controller.metrics.portName) (printf "port: %v" $controller.metrics.port) | nindent 2 }}
readinessProbe:
  exec:
    command:
      - /gateway
      - probe
      - {{ include "penstock.handover.socket" . }}
  {{- omit $controller.readinessProbe "httpGet" | toYaml | nindent 2 }}
{{- else }}
ports:
  {{- range $name, $port := $controller.containerPort }}
  - name: {{ $name }}
    containerPort: {{ $port }}
    protocol: TCP
    {{- if $controller.hostPort.enabled }}
    hostPort: {{ index $controller.hostPort.ports $name | default $port }}
    {{- end }}
  {{- end }}
  {{- range $transport := list "tcp" "udp" }}
  {{- range $port, $_ := index $.Values $transport }}
  - name: {{ include "penstock.streamPort" (list $ $transport $port) }}
    containerPort: {{ $port }}
    protocol: {{ upper $transport }}
    {{- if $controller.hostPort.enabled }}
    hostPort: {{ $port }}
    {{- end }}
  {{- end }}
  {{- end }}
  - name: {{ $controller.metrics.portName }}
    containerPort: {{ $controller.metrics.port }}
    protocol: TCP
  {{- if $controller.admissionWebhooks.enabled }}
  - name: webhook
    containerPort: {{ $controller.admissionWebhooks.port }}
    protocol: TCP
  {{- end }}
livenessProbe:
  {{- toYaml $controller.livenessProbe | nindent 2 }}
readinessProbe:
  {{- toYaml $controller.readinessProbe | nindent 2 }}
{{- end }}
{{- with $controller.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $controller.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $mountsAdmission := include "penstock.admission.mounted" . }}
{{- if or $controller.handover.enabled $mountsAdmission $controller.extraVolumeMounts }}
volumeMounts:
  {{- if $mountsAdmission }}
  - name: admission
    mountPath: /admission
    readOnly: true
  {{- end }}
  {{- if $controller.handover.enabled }}
  - name: handover
    mountPath: /handover
  {{- end }}
  {{- with $controller.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Gives the directory of the socket, which the kubelet makes for root, to the user of the gateway. */}}
{{- define "penstock.handover.preparation" -}}
{{- $controller := .Values.controller -}}
name: handover
image: {{ include "penstock.image" (list . $controller.image) }}
imagePullPolicy: {{ $controller.image.pullPolicy }}
args:
  - prepare
  - {{ include "penstock.handover.socket" . }}
  - --user={{ $controller.image.runAsUser }}
securityContext:
  runAsNonRoot: false
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
    # The last one is of the program's file: without it, the kernel does not start it.
    add:
      - CHOWN
      - FOWNER
      - NET_BIND_SERVICE
volumeMounts:
  - name: handover
    mountPath: /handover
{{- end }}

{{- define "penstock.handover.socket" -}}
--handoff-socket=/handover/socket
{{- end }}

{{/* The name of a port of streams: (list $ "tcp" "9000"). */}}
{{- define "penstock.streamPort" -}}
{{- with (index . 0).Values.portNamePrefix }}{{ . }}-{{ end }}{{ index . 2 }}-{{ index . 1 }}
{{- end }}

{{- define "penstock.securityContext" -}}
runAsNonRoot: {{ .runAsNonRoot }}
runAsUser: {{ .runAsUser }}
runAsGroup: {{ .runAsGroup }}
allowPrivilegeEscalation: {{ .allowPrivilegeEscalation }}
readOnlyRootFilesystem: {{ .readOnlyRootFilesystem }}
seccompProfile:
  {{- toYaml .seccompProfile | nindent 2 }}
{{- end }}

{{- define "penstock.args" -}}
{{- $controller := .Values.controller -}}
- run
- --http=0.0.0.0:{{ $controller.containerPort.http }}
- --https=0.0.0.0:{{ $controller.containerPort.https }}
- --status=0.0.0.0:{{ $controller.metrics.port }}
- --configmap=$(POD_NAMESPACE)/{{ include "penstock.controller.fullname" . }}
{{- range $transport := list "tcp" "udp" }}
{{- if index $.Values $transport }}
- --{{ $transport }}-services-configmap=$(POD_NAMESPACE)/{{ include "penstock.controller.fullname" $ }}-{{ $transport }}
{{- end }}
{{- end }}
- --controller-class={{ $controller.ingressClassResource.controllerValue }}
- --ingress-class={{ $controller.ingressClass }}
- --election-id={{ include "penstock.electionID" . }}
{{- with $controller.electionTTL }}
- --election-ttl={{ . }}
{{- end }}
{{- if $controller.ingressClassByName }}
- --ingress-class-by-name
{{- end }}
{{- if $controller.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
{{- with include "penstock.scope" . }}
- --watch-namespace={{ . }}
{{- end }}
{{- if and $controller.scope.enabled $controller.scope.namespaceSelector }}
- {{ printf "--watch-namespace-selector=%s" $controller.scope.namespaceSelector | quote }}
{{- end }}
{{- with include "penstock.publishService" . }}
- --publish-service={{ . }}
{{- end }}
{{- if $controller.reportNodeInternalIp }}
- --report-node-internal-ip-address
{{- end }}
{{- if .Values.defaultBackend.enabled }}
- --default-backend-service=$(POD_NAMESPACE)/{{ include "penstock.defaultBackend.fullname" . }}
{{- end }}
{{- if $controller.handover.enabled }}
- {{ include "penstock.handover.socket" . }}
{{- end }}
{{- if $controller.admissionWebhooks.enabled }}
- --validating-webhook=0.0.0.0:{{ $controller.admissionWebhooks.port }}
{{- if include "penstock.admission.mounted" . }}
- --validating-webhook-certificate=/admission/tls.crt
- --validating-webhook-key=/admission/tls.key
{{- else }}
- --validating-webhook-secret={{ include "penstock.admission.secretName" . }}
- --validating-webhook-configuration={{ include "penstock.admission.configuration" . }}
{{- end }}
{{- end }}
{{- range $flag, $value := $controller.extraArgs }}
- {{ if or (kindIs "invalid" $value) (eq (toString $value) "") }}{{ printf "--%s" $flag | quote }}{{ else }}{{ printf "--%s=%s" $flag (toString $value) | quote }}{{ end }}
{{- end }}
{{- end }}
