// The OpenTelemetry collector, of as few parts as our traces need: OTLP in and out, and somebody at the door who wants
// to see a header. What its builder would write, less its own telemetry, which is a log here and nothing else.
// tests/process/collector.py runs it.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"
	"go.uber.org/zap"
)

func components() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	extensions, err := otelcol.MakeFactoryMap[extension.Factory](wantsHeader())
	if err != nil {
		return otelcol.Factories{}, err
	}
	return otelcol.Factories{
		Receivers: receivers, Exporters: exporters, Extensions: extensions, Telemetry: logOnly(),
	}, nil
}

// An authenticator for the receiver: 401 for requests without the header of its configuration.
func wantsHeader() extension.Factory {
	type config struct {
		Name  string `mapstructure:"name"`
		Value string `mapstructure:"value"`
	}
	type door struct {
		component.StartFunc
		component.ShutdownFunc
		extensionauth.ServerAuthenticateFunc
	}
	return extension.NewFactory(
		component.MustNewType("wants_header"),
		func() component.Config { return &config{} },
		func(_ context.Context, _ extension.Settings, given component.Config) (extension.Extension, error) {
			wanted := given.(*config)
			return door{ServerAuthenticateFunc: func(
				ctx context.Context, headers map[string][]string,
			) (context.Context, error) {
				if !slices.Contains(http.Header(headers).Values(wanted.Name), wanted.Value) {
					return ctx, errors.New("the header is missing, or is another")
				}
				return ctx, nil
			}}, nil
		},
		component.StabilityLevelStable,
	)
}

func logOnly() telemetry.Factory {
	type config struct{}
	return telemetry.NewFactory(
		func() component.Config { return &config{} },
		telemetry.WithCreateLogger(func(
			_ context.Context, settings telemetry.LoggerSettings, _ component.Config,
		) (*zap.Logger, component.ShutdownFunc, error) {
			logger, err := zap.NewProduction()
			return logger, nil, err
		}),
	)
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "OpenTelemetry collector for tests"},
		Factories: components,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
			DefaultScheme:     "yaml",
		}},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
