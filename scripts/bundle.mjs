// `npm run build:ts`, after tsc: the program in one file, `dist/cli/main.js`. Node takes 0.19 s to find and link the 280
// modules that it is written in, and 0.07 s for one. The API in `dist` stays as tsc wrote it.
// `node scripts/bundle.mjs ENTRY FOLDER` bundles another file alike: a benchmark measures what is installed.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const root = resolve(import.meta.dirname ?? '.', '..')

/** Writes `entry` and all that it imports into `outdir`; returns the paths of what is in it. */
const bundle = async (entry, outdir) => {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outdir,
    bundle: true,
    // What is imported on demand gets a file of its own, beside this one: paths in the source count from there.
    splitting: true,
    chunkNames: '[name]-[hash]',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
    // Packages that are no ES modules ask for Node's own by `require`.
    banner: {
      js: `import { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);`,
    },
  })
  return Object.keys(metafile.inputs)
}

const licenseOf = (path) => {
  const { name, version, license } = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'))
  const files = readdirSync(join(root, path)).filter((file) => /^licen[cs]e/i.test(file))
  const texts = files.map((file) => readFileSync(join(root, path, file), 'utf8').trim())
  return [`${name} ${version} (${license})`, ...texts].join('\n\n')
}

/** The program, with the licences of the packages of which something is in it. */
const bundleProgram = async () => {
  const folder = join(root, 'dist', 'cli')
  rmSync(folder, { recursive: true, force: true })
  const inputs = await bundle('ts/cli/main.ts', folder)
  const packages = new Set(inputs.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? []))
  const licenses = [...packages].sort().map(licenseOf)
  writeFileSync(join(folder, 'LICENSES.txt'), `${licenses.join('\n\n----\n\n')}\n`)
}

const [entry, outdir] = process.argv.slice(2)
if (entry === undefined) await bundleProgram()
else await bundle(entry, outdir)
