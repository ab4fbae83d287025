import { defineConfig } from "vite";

const SERVICE = "http://127.0.0.1:8080";

export default defineConfig({
  base: "/",
  build: {
    outDir: "../src/dagfusion_server/doors/console/static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // a `data:` URL would need a hole in the content security policy
    modulePreload: { polyfill: false },
    target: "es2023",
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "uplot", test: /node_modules\/uplot\/.*\.js$/ },
            { name: "arrow", test: /node_modules\/(apache-arrow|flatbuffers|tslib)\// },
            { name: "codemirror", test: /node_modules\/(@codemirror|codemirror|@lezer|style-mod|w3c-keyname|crelt)\// },
          ],
        },
      },
    },
  },
  server: { proxy: { "/v1": SERVICE } },
});
