// The words that the tiny model's texts are made of, in German and English. Data only; everything here is invented.
//
// `heldOut` splits are words that the pre-training text uses and no training row does: only held-out rows ask for them.

export interface Split {
  train: readonly string[]
  heldOut: readonly string[]
}

export interface Activity {
  /** Third person past, as it stands in a sentence: "kaufte", "bought". */
  past: string
  /** The form that a question uses after "did" (English); the past in German. */
  asked: string
}

/** A thing as object of a sentence and as subject of another. */
export interface Thing {
  object: string
  subject: string
}

export interface ReviewDomain {
  subjects: readonly string[]
  good: Split
  bad: Split
}

export interface Language {
  names: Split
  places: Split
  things: readonly Thing[]
  days: readonly string[]
  activities: readonly Activity[]
  reviews: readonly ReviewDomain[]
  closings: { good: readonly string[]; bad: readonly string[] }
}

const words = (text: string): string[] => text.split(' ')

const NAMES: Split = {
  train: words(
    'Anna Ben Clara David Emma Felix Greta Hanna Jonas Karla Leon Maria Nora Oskar Paula Robert Sofia Tom Vera Anton Lena Moritz Ida Jakob Olga Max Eva Paul Frieda Otto Mila Linus',
  ),
  heldOut: words('Laura Peter Marta Simon Julia Erik Rosa Daniel'),
}

const PLACES: Split = {
  train: words(
    'Berlin Hamburg Bonn Bremen Dresden Leipzig Mainz Kiel Wien Graz Paris London Rom Madrid Oslo Dublin Basel Luzern Ulm Jena Bern Genf Mailand Lyon Warschau Athen Zagreb',
  ),
  heldOut: words('Potsdam Weimar Prag Boston Lissabon Trier Riga Aachen'),
}

const thing = (object: string, subject: string): Thing => ({ object, subject })

export const GERMAN: Language = {
  names: NAMES,
  places: PLACES,
  things: [
    thing('ein Brot', 'Das Brot'),
    thing('eine Lampe', 'Die Lampe'),
    thing('ein Buch', 'Das Buch'),
    thing('einen Hut', 'Der Hut'),
    thing('eine Tasche', 'Die Tasche'),
    thing('ein Fahrrad', 'Das Fahrrad'),
    thing('einen Ball', 'Der Ball'),
    thing('eine Uhr', 'Die Uhr'),
    thing('ein Bild', 'Das Bild'),
    thing('einen Schirm', 'Der Schirm'),
    thing('eine Katze', 'Die Katze'),
    thing('ein Boot', 'Das Boot'),
    thing('einen Ring', 'Der Ring'),
    thing('eine Blume', 'Die Blume'),
  ],
  days: words('Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag'),
  activities: words('kaufte fand suchte malte sah verlor verkaufte bekam').map((past) => ({
    past,
    asked: past,
  })),
  reviews: [
    {
      subjects: ['Das Essen', 'Die Suppe', 'Der Kuchen', 'Der Kaffee', 'Die Pizza'],
      good: { train: words('lecker köstlich frisch gut'), heldOut: words('herrlich') },
      bad: { train: words('kalt fad verbrannt schlecht'), heldOut: words('versalzen') },
    },
    {
      subjects: ['Das Hotel', 'Das Zimmer', 'Die Wohnung', 'Das Bad'],
      good: { train: words('sauber schön gemütlich ruhig'), heldOut: words('hell') },
      bad: { train: words('schmutzig laut eng kaputt'), heldOut: words('dunkel') },
    },
    {
      subjects: ['Der Film', 'Das Buch', 'Das Konzert', 'Die Serie'],
      good: { train: words('spannend lustig toll großartig'), heldOut: words('wunderbar') },
      bad: { train: words('langweilig dumm furchtbar schwach'), heldOut: words('öde') },
    },
    {
      subjects: ['Der Kellner', 'Die Beratung', 'Das Personal', 'Der Fahrer'],
      good: { train: words('freundlich nett schnell höflich'), heldOut: words('hilfsbereit') },
      bad: { train: words('unfreundlich langsam grob unhöflich'), heldOut: words('gemein') },
    },
  ],
  closings: {
    good: [
      'Gern wieder.',
      'Sehr zufrieden, danke.',
      'Klare Empfehlung.',
      'Toll, ich komme wieder.',
      'Ich bin sehr zufrieden.',
      'Das hat mir gefallen.',
      'Warst du zufrieden? Ja, sehr.',
      'Und, hat es dir gefallen? Ja.',
    ],
    bad: [
      'Nie wieder.',
      'Leider enttäuscht.',
      'Schade um das Geld.',
      'Furchtbar, ich bleibe weg.',
      'Ich bin sehr enttäuscht.',
      'Das hat mir nicht gefallen.',
      'Warst du zufrieden? Nein, gar nicht.',
      'Und, hat es dir gefallen? Nein.',
    ],
  },
}

export const ENGLISH: Language = {
  names: NAMES,
  places: PLACES,
  things: [
    thing('a lamp', 'The lamp'),
    thing('a book', 'The book'),
    thing('a hat', 'The hat'),
    thing('a bag', 'The bag'),
    thing('a bike', 'The bike'),
    thing('a ball', 'The ball'),
    thing('a watch', 'The watch'),
    thing('a picture', 'The picture'),
    thing('a coat', 'The coat'),
    thing('a cat', 'The cat'),
    thing('a boat', 'The boat'),
    thing('a ring', 'The ring'),
    thing('a flower', 'The flower'),
    thing('a chair', 'The chair'),
  ],
  days: words('Monday Tuesday Wednesday Thursday Friday Saturday Sunday'),
  activities: [
    { past: 'bought', asked: 'buy' },
    { past: 'found', asked: 'find' },
    { past: 'painted', asked: 'paint' },
    { past: 'saw', asked: 'see' },
    { past: 'lost', asked: 'lose' },
    { past: 'sold', asked: 'sell' },
    { past: 'got', asked: 'get' },
    { past: 'wanted', asked: 'want' },
  ],
  reviews: [
    {
      subjects: ['The food', 'The soup', 'The cake', 'The coffee', 'The pizza'],
      good: { train: words('tasty delicious fresh good'), heldOut: words('yummy') },
      bad: { train: words('cold bland burnt bad'), heldOut: words('salty') },
    },
    {
      subjects: ['The hotel', 'The room', 'The flat', 'The bathroom'],
      good: { train: words('clean beautiful cosy quiet'), heldOut: words('bright') },
      bad: { train: words('dirty loud tiny broken'), heldOut: words('dark') },
    },
    {
      subjects: ['The film', 'The book', 'The concert', 'The show'],
      good: { train: words('exciting funny great brilliant'), heldOut: words('wonderful') },
      bad: { train: words('boring stupid awful weak'), heldOut: words('dull') },
    },
    {
      subjects: ['The waiter', 'The staff', 'The driver', 'The guide'],
      good: { train: words('friendly kind quick polite'), heldOut: words('helpful') },
      bad: { train: words('unfriendly slow rude impolite'), heldOut: words('mean') },
    },
  ],
  closings: {
    good: [
      'Gladly again.',
      'Very happy, thank you.',
      'Great, I will come again.',
      'Lovely, every cent well spent.',
      'I am very happy.',
      'I liked it a lot.',
      'Were you happy? Yes, very.',
      'So, did you like it? Yes.',
    ],
    bad: [
      'Never again.',
      'Sadly disappointed.',
      'What a waste of money.',
      'Awful, I will stay away.',
      'I am very disappointed.',
      'I did not like it.',
      'Were you happy? No, not at all.',
      'So, did you like it? No.',
    ],
  },
}
