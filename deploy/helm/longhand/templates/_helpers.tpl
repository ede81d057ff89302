{{/* The name of the release's objects: RELEASE-longhand, or RELEASE where that has the word already. */}}
{{- define "longhand.name" -}}
{{- if contains "longhand" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-longhand" (.Release.Name | trunc 31 | trimSuffix "-") }}{{- end -}}
{{- end -}}

{{/* What selects the pods of a component: (list $ "api"). */}}
{{- define "longhand.selector" -}}
app.kubernetes.io/name: longhand
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of a component's objects: (list $ "api"). */}}
{{- define "longhand.labels" -}}
{{ include "longhand.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end -}}

{{/* A model's part of names: (its entry). */}}
{{- define "longhand.modelName" -}}
{{ .id | lower | replace "." "-" | replace "_" "-" | trunc 40 | trimSuffix "-" }}
{{- end -}}

{{/* The models of an entry, separated by commas: (its entry). */}}
{{- define "longhand.modelIds" -}}
{{ prepend (.alsoServes | default list) .id | join "," }}
{{- end -}}

{{/* An image: (list $ "server"). */}}
{{- define "longhand.image" -}}
{{- $image := (index . 0).Values.image -}}
{{ with $image.registry }}{{ . | trimSuffix "/" }}/{{ end }}longhand-{{ index . 1 }}:{{ $image.tag }}
{{- end -}}

{{/* The Secret with URLs and passwords. */}}
{{- define "longhand.secret" -}}
{{- if .Values.trial.enabled -}}{{ include "longhand.name" . }}-trial
{{- else -}}{{ required "secret: the name of a Secret with URLs and passwords (README.md), or trial.enabled=true" .Values.secret }}
{{- end -}}
{{- end -}}

{{/* A variable whose value is in the Secret: (list $ "VARIABLE" "key"), and true if it may be missing. */}}
{{- define "longhand.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ include "longhand.secret" (index . 0) }}
      key: {{ index . 2 }}
      {{- if gt (len .) 3 }}
      optional: true
      {{- end }}
{{- end -}}

{{/* Models that have no worker while there is nothing for them, separated by commas. */}}
{{- define "longhand.onDemand" -}}
{{- $ids := list -}}
{{- range .Values.models }}{{ if and .scaling (eq (int .scaling.minReplicas) 0) }}{{ $ids = append $ids (include "longhand.modelIds" .) }}{{ end }}{{ end -}}
{{- join "," $ids -}}
{{- end -}}

{{/* The variables of all processes but the database's URL: (list $ settings), settings of its own go last. */}}
{{- define "longhand.environment" -}}
{{- $ := index . 0 -}}
{{- $settings := dict "LONGHAND_LOG_FORMAT" "json" "LONGHAND_HEALTH_HOST" "0.0.0.0" "LONGHAND_HEALTH_PORT" "8001" -}}
{{- $_ := set $settings "LONGHAND_DEFAULT_MODEL" $.Values.defaultModel -}}
{{- with include "longhand.onDemand" $ }}{{ $_ := set $settings "LONGHAND_ON_DEMAND_MODELS" . }}{{ end -}}
{{- if $.Values.catalogue }}{{ $_ := set $settings "LONGHAND_CATALOGUE" "/catalogue/models.toml" }}{{ end -}}
{{- if and $.Values.ingress.enabled $.Values.ingress.host }}{{ $_ := set $settings "LONGHAND_PUBLIC_URL" (printf "https://%s" $.Values.ingress.host) }}{{ end -}}
{{- range $name, $value := mergeOverwrite $settings $.Values.settings (index . 1) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with $.Values.otel.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- range $name, $value := $.Values.otel.variables }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{ include "longhand.secretVariable" (list $ "OTEL_EXPORTER_OTLP_HEADERS" "otel-headers" true) }}
{{- end }}
{{ include "longhand.secretVariable" (list $ "LONGHAND_BROKER_URL" "broker-url") }}
{{ include "longhand.secretVariable" (list $ "LONGHAND_STORAGE_URL" "storage-url") }}
{{- end -}}

{{/* Of a container: it gains nothing and writes nothing but its volumes. */}}
{{- define "longhand.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Of a pod of Longhand's own: user 10001 of the images. */}}
{{- define "longhand.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What all pods have: (list $ component spec); spec may have nodeSelector and tolerations. */}}
{{- define "longhand.pod" -}}
{{- $ := index . 0 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "longhand.podSecurity" $ | nindent 2 }}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with (index . 2).nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 2).tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "longhand.selector" (list $ (index . 1)) | nindent 8 }}
{{- end -}}

{{/* What makes pods start anew when the catalogue changes. */}}
{{- define "longhand.annotations" -}}
checksum/catalogue: {{ .Values.catalogue | sha256sum }}
{{- end -}}

{{- define "longhand.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.catalogue }}
- name: catalogue
  mountPath: /catalogue
  readOnly: true
{{- end }}
{{- end -}}

{{- define "longhand.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if .Values.catalogue }}
- name: catalogue
  configMap:
    name: {{ include "longhand.name" . }}-catalogue
{{- end }}
{{- end -}}

{{/* Probes: (list port seconds), the seconds in which the process must have started. A pod is ended only if it does
not answer; what it depends on decides whether it is ready. */}}
{{- define "longhand.probes" -}}
startupProbe:
  httpGet: {path: /health/startup, port: {{ index . 0 }}}
  periodSeconds: 2
  timeoutSeconds: 4
  failureThreshold: {{ div (index . 1) 2 }}
livenessProbe:
  httpGet: {path: /health/live, port: {{ index . 0 }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: {{ index . 0 }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end -}}
