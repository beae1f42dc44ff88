# SPDX-License-Identifier: Apache-2.0
{
  description = "Host observability in small daemons: collectord, beylad, libtelemetry, telemetryctl";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAll = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});

      # What a build needs; docs/dependencies.md says why.
      # BPF programs take the bare clang: the wrapped one adds flags that only fit programs of this machine.
      tools = pkgs: with pkgs; [ cmake ninja pkg-config nanopb llvmPackages.clang-unwrapped bpftools ];
      libraries = pkgs: with pkgs; [ libuv nanopb curl jansson systemd libbpf elfutils capstone libmicrohttpd libdeflate isa-l zstd cmocka ];
      # The bare clang knows no headers but its own.
      bpfHeaders = pkgs: pkgs.lib.makeSearchPathOutput "dev" "include" (with pkgs; [ libbpf linuxHeaders ]);

      build = pkgs: extra: pkgs.stdenv.mkDerivation ({
        pname = "spoke";
        version = "0.1.0";
        src = self;
        strictDeps = true;
        nativeBuildInputs = tools pkgs;
        buildInputs = libraries pkgs;
        C_INCLUDE_PATH = bpfHeaders pkgs;
        meta = {
          description = "Host observability in small daemons";
          license = pkgs.lib.licenses.asl20;
          platforms = pkgs.lib.platforms.linux;
          mainProgram = "collectord";
        };
      } // extra);
    in
    {
      packages = forAll (pkgs: rec {
        spoke = build pkgs { };
        default = spoke;
      });

      # The unit tests, as they are released and under the sanitizers. The integration tests need sockets and Python: scripts/test in the dev shell.
      checks = forAll (pkgs: {
        unit = build pkgs {
          pname = "spoke-unit";
          doCheck = true;
          checkPhase = "ctest --output-on-failure --no-tests=error";
        };
        unit-sanitized = build pkgs {
          pname = "spoke-unit-sanitized";
          cmakeBuildType = "Debug";
          cmakeFlags = [ "-DSANITIZE=address,undefined" ];
          hardeningDisable = [ "fortify" ];                # of no use without optimization
          doCheck = true;
          checkPhase = "ctest --output-on-failure --no-tests=error";
        };
      });

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          C_INCLUDE_PATH = bpfHeaders pkgs;
          # What scripts/run and scripts/test use beside the build.
          packages = with pkgs; [
            python3 socat curl git openssl jq unixtools.xxd iproute2 valgrind
            (writeShellScriptBin "clang-14" ''exec ${llvmPackages.clang}/bin/clang "$@"'')
            llvmPackages.llvm
          ];
        };
      });
    };
}
