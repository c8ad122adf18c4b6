{{- define "mooltiproxy.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "mooltiproxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mooltiproxy.labels" -}}
{{ include "mooltiproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "mooltiproxy.secret" -}}
{{- .Values.secret.existing | default (include "mooltiproxy.name" .) -}}
{{- end }}

{{- define "mooltiproxy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Whether there may be more than one pod. */}}
{{- define "mooltiproxy.many" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}true{{ end -}}
{{- end }}

{{/* config.system.drain in whole seconds. */}}
{{- define "mooltiproxy.drain" -}}
{{- $drain := toString ((.Values.config.system | default dict).drain | default 30) }}
{{- if regexMatch "^[0-9]+s?$" $drain }}{{ trimSuffix "s" $drain }}
{{- else if regexMatch "^[0-9]+m$" $drain }}{{ mul 60 (trimSuffix "m" $drain) }}
{{- else }}{{ fail (printf "config.system.drain: expected whole seconds or minutes, as 30 or 2m, not %s" $drain) }}
{{- end -}}
{{- end }}
