"""Two small word problems in each of the model card's 25 languages, with two sets of numbers."""

from magistral_mlx.evaluation.question import Question, QuestionSet

NUMBERS = (
    # apples, sold, a box; kilometres, hours, more hours
    ((94, 38, 8), (180, 3, 5)),
    ((75, 33, 6), (252, 4, 7)),
)


def language_questions() -> QuestionSet:
    """100 questions; reasoning and answer should be in the language of the question."""
    questions = [
        question
        for (apples, sold, box), (distance, hours, more) in NUMBERS
        for language, (boxes, journey) in _TEXTS.items()
        for question in (
            _question(
                f"{language}-boxes-{apples}",
                language,
                boxes.format(apples=apples, sold=sold, box=box),
                (apples - sold) // box,
            ),
            _question(
                f"{language}-journey-{distance}",
                language,
                journey.format(distance=distance, hours=hours, more=more),
                distance * more // hours,
            ),
        )
    ]
    origin = "written for magistral-mlx"
    return QuestionSet("languages", "25 languages", origin, tuple(questions))


def _question(id: str, language: str, text: str, expected: int) -> Question:
    return Question(id, text, str(expected), "mathematics", language=language, group=language)


_TEXTS = {
    "en": (
        "A farmer has {apples} apples. She sells {sold} of them and packs the rest into boxes of "
        "{box} apples each. How many boxes does she fill?",
        "A train travels {distance} kilometres in {hours} hours. How many kilometres does it "
        "travel in {more} hours at the same speed?",
    ),
    "fr": (
        "Une agricultrice a {apples} pommes. Elle en vend {sold} et range les autres dans des "
        "caisses de {box} pommes. Combien de caisses remplit-elle ?",
        "Un train parcourt {distance} kilomètres en {hours} heures. Combien de kilomètres "
        "parcourt-il en {more} heures à la même vitesse ?",
    ),
    "de": (
        "Eine Bäuerin hat {apples} Äpfel. Sie verkauft {sold} davon und packt die übrigen in "
        "Kisten zu je {box} Äpfeln. Wie viele Kisten füllt sie?",
        "Ein Zug fährt {distance} Kilometer in {hours} Stunden. Wie viele Kilometer fährt er bei "
        "gleicher Geschwindigkeit in {more} Stunden?",
    ),
    "el": (
        "Μια αγρότισσα έχει {apples} μήλα. Πουλάει {sold} από αυτά και βάζει τα υπόλοιπα σε "
        "κιβώτια των {box} μήλων. Πόσα κιβώτια γεμίζει;",
        "Ένα τρένο διανύει {distance} χιλιόμετρα σε {hours} ώρες. Πόσα χιλιόμετρα διανύει σε "
        "{more} ώρες με την ίδια ταχύτητα;",
    ),
    "hi": (
        "एक किसान के पास {apples} सेब हैं। वह उनमें से {sold} सेब बेच देती है और बाकी सेब {box}-{box} "
        "के डिब्बों में भर देती है। वह कितने डिब्बे भरती है?",
        "एक रेलगाड़ी {hours} घंटे में {distance} किलोमीटर चलती है। उसी गति से वह {more} घंटे में "
        "कितने किलोमीटर चलेगी?",
    ),
    "id": (
        "Seorang petani mempunyai {apples} apel. Ia menjual {sold} apel dan memasukkan sisanya ke "
        "dalam kotak yang masing-masing berisi {box} apel. Berapa kotak yang terisi?",
        "Sebuah kereta menempuh jarak {distance} kilometer dalam {hours} jam. Berapa kilometer "
        "yang ditempuhnya dalam {more} jam dengan kecepatan yang sama?",
    ),
    "it": (
        "Una contadina ha {apples} mele. Ne vende {sold} e mette le altre in cassette da {box} "
        "mele ciascuna. Quante cassette riempie?",
        "Un treno percorre {distance} chilometri in {hours} ore. Quanti chilometri percorre in "
        "{more} ore alla stessa velocità?",
    ),
    "ja": (
        "農家の人がりんごを{apples}個持っています。そのうち{sold}個を売り、残りを1箱に{box}個ずつ"
        "詰めます。何箱できますか。",
        "ある列車は{hours}時間で{distance}キロメートル走ります。同じ速さで{more}時間走ると、"
        "何キロメートル進みますか。",
    ),
    "ko": (
        "농부가 사과 {apples}개를 가지고 있습니다. 그중 {sold}개를 팔고 나머지를 한 상자에 "
        "{box}개씩 담습니다. 상자는 모두 몇 개가 됩니까?",
        "어떤 기차가 {hours}시간 동안 {distance}킬로미터를 달립니다. 같은 속도로 {more}시간 동안 "
        "달리면 몇 킬로미터를 갑니까?",
    ),
    "ms": (
        "Seorang petani mempunyai {apples} biji epal. Dia menjual {sold} biji dan membungkus baki "
        "epal itu ke dalam kotak yang memuatkan {box} biji setiap satu. Berapakah bilangan kotak "
        "yang dipenuhkannya?",
        "Sebuah kereta api bergerak sejauh {distance} kilometer dalam masa {hours} jam. Berapakah "
        "jarak yang dilaluinya dalam masa {more} jam pada kelajuan yang sama?",
    ),
    "ne": (
        "एक जना किसानसँग {apples} वटा स्याउ छन्। उनले तीमध्ये {sold} वटा बेच्छिन् र बाँकी स्याउ "
        "{box} वटा अट्ने बाकसमा राख्छिन्। उनले कति वटा बाकस भर्छिन्?",
        "एउटा रेलले {hours} घण्टामा {distance} किलोमिटर यात्रा गर्छ। उही गतिमा उसले {more} घण्टामा "
        "कति किलोमिटर यात्रा गर्छ?",
    ),
    "pl": (
        "Rolniczka ma {apples} jabłek. Sprzedaje {sold} z nich, a resztę pakuje do skrzynek po "
        "{box} jabłek. Ile skrzynek napełni?",
        "Pociąg przejeżdża {distance} kilometrów w {hours} godziny. Ile kilometrów przejedzie z tą "
        "samą prędkością w ciągu {more} godzin?",
    ),
    "pt": (
        "Uma agricultora tem {apples} maçãs. Vende {sold} delas e coloca as restantes em caixas de "
        "{box} maçãs cada. Quantas caixas ela enche?",
        "Um trem percorre {distance} quilômetros em {hours} horas. Quantos quilômetros percorre em "
        "{more} horas à mesma velocidade?",
    ),
    "ro": (
        "O fermieră are {apples} de mere. Vinde {sold} dintre ele și le pune pe celelalte în lăzi "
        "de câte {box} mere. Câte lăzi umple?",
        "Un tren parcurge {distance} de kilometri în {hours} ore. Câți kilometri parcurge în "
        "{more} ore cu aceeași viteză?",
    ),
    "ru": (
        "У фермера {apples} яблок. Он продаёт {sold} из них, а остальные раскладывает по ящикам, "
        "по {box} яблок в каждый. Сколько ящиков он заполнит?",
        "Поезд проезжает {distance} километров за {hours} часа. Сколько километров он проедет за "
        "{more} часов с той же скоростью?",
    ),
    "sr": (
        "Пољопривредница има {apples} јабука. Прода {sold} јабука, а остале пакује у кутије у које "
        "стаје по {box} јабука. Колико кутија ће напунити?",
        "Воз пређе {distance} километара за {hours} сата. Колико километара ће прећи за {more} "
        "сати истом брзином?",
    ),
    "es": (
        "Una agricultora tiene {apples} manzanas. Vende {sold} y guarda las demás en cajas de "
        "{box} manzanas cada una. ¿Cuántas cajas llena?",
        "Un tren recorre {distance} kilómetros en {hours} horas. ¿Cuántos kilómetros recorre en "
        "{more} horas a la misma velocidad?",
    ),
    "sv": (
        "En bonde har {apples} äpplen. Hon säljer {sold} av dem och packar resten i lådor med "
        "{box} äpplen i varje. Hur många lådor fyller hon?",
        "Ett tåg kör {distance} kilometer på {hours} timmar. Hur många kilometer kör det på {more} "
        "timmar med samma hastighet?",
    ),
    "tr": (
        "Bir çiftçinin {apples} elması var. Bunların {sold} tanesini satıyor ve kalanları her "
        "birinde {box} elma olacak şekilde kutulara koyuyor. Kaç kutu doldurur?",
        "Bir tren {hours} saatte {distance} kilometre yol alıyor. Aynı hızla {more} saatte kaç "
        "kilometre yol alır?",
    ),
    "uk": (
        "У фермерки {apples} яблук. Вона продає {sold} із них, а решту розкладає в ящики по {box} "
        "яблук у кожен. Скільки ящиків вона заповнить?",
        "Потяг проїжджає {distance} кілометрів за {hours} години. Скільки кілометрів він проїде за "
        "{more} годин із тією самою швидкістю?",
    ),
    "vi": (
        "Một người nông dân có {apples} quả táo. Cô ấy bán {sold} quả và xếp số còn lại vào các "
        "hộp, mỗi hộp {box} quả. Cô ấy xếp được bao nhiêu hộp?",
        "Một đoàn tàu đi được {distance} ki-lô-mét trong {hours} giờ. Với cùng vận tốc, tàu đi "
        "được bao nhiêu ki-lô-mét trong {more} giờ?",
    ),
    "ar": (
        "لدى مزارعة {apples} تفاحة. باعت منها {sold} تفاحة ووضعت الباقي في صناديق يتسع كل منها "
        "لعدد {box} من التفاح. كم صندوقًا ملأت؟",
        "يقطع قطار {distance} كيلومترًا في {hours} ساعات. كم كيلومترًا يقطع في {more} ساعات "
        "بالسرعة نفسها؟",
    ),
    "bn": (
        "একজন কৃষকের কাছে {apples}টি আপেল আছে। তিনি {sold}টি আপেল বিক্রি করেন এবং বাকিগুলো প্রতি বাক্সে "
        "{box}টি করে রাখেন। তিনি কয়টি বাক্স ভরেন?",
        "একটি ট্রেন {hours} ঘণ্টায় {distance} কিলোমিটার যায়। একই গতিতে ট্রেনটি {more} ঘণ্টায় কত "
        "কিলোমিটার যাবে?",
    ),
    "zh": (
        "一位农民有{apples}个苹果。她卖掉了{sold}个，把剩下的装进箱子，每箱{box}个。她能装满多少箱？",
        "一列火车{hours}小时行驶{distance}公里。以同样的速度，它{more}小时能行驶多少公里？",
    ),
    "fa": (
        "یک کشاورز {apples} سیب دارد. او {sold} سیب را می‌فروشد و بقیه را در جعبه‌های {box} تایی "
        "می‌گذارد. او چند جعبه را پر می‌کند؟",
        "یک قطار در {hours} ساعت {distance} کیلومتر حرکت می‌کند. با همان سرعت در {more} ساعت چند "
        "کیلومتر حرکت می‌کند؟",
    ),
}
